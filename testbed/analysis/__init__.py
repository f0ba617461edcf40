"""What a finished run says: tables, figures and the notebook that holds both."""
