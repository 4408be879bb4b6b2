"""skillstack.yaml as one model, its reference page, and the parameters that flows take from it."""
