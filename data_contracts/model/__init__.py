"""What a model folder says without loading it: files, window, subspace memory."""
