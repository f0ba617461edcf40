"""Checkpoints: taken from a lab, read wherever they come from, shown, and compared."""
