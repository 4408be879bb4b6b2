"""One forward pass, several processes, peak memory."""
