"""Decisions: where service and radio link should be."""
