"""Services of my own."""
