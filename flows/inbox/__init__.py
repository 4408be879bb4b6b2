"""Start rounds for drops that arrive in a folder or bucket."""
