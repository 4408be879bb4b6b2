"""The gate's rules 2, as they were: a verdict made by them is recomputed by them, byte for byte.

Nothing here is changed any more; today's rules are in the modules `evals.gate*`. Shared with them are the store of items (`evals.items`),
the pairing of items (`evals.pairing`) and the arithmetic (`evals.statistics`).
"""
