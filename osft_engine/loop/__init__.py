"""The training loop and what surrounds it: preparation, optimiser, resume, end."""
