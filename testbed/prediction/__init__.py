"""Which site a user comes to next, how sure that is, and when."""
