"""Drops that arrive in a folder or bucket become rounds."""
