"""Suites: which there are, their items and gold answers."""
