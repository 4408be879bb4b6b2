"""What a model answers: log-likelihoods and generations."""
