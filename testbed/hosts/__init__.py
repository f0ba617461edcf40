"""Machines that can run containers, and the emulated paths between them."""
