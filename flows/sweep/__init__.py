"""Several candidates for one drop, compared on a tuning split."""
