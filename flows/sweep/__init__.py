"""Several candidates of one drop, compared on rows of their own."""
