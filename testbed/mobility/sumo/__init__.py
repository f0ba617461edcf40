"""Trips and whole traffic that SUMO drives."""
