"""How a model is asked: log-likelihoods and generations."""
