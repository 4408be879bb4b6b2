"""The gate's rules 4, as they were: a verdict made by them is recomputed by them, byte for byte.

Nothing here is changed any more; today's rules are the modules beside this folder. Shared with them are the store of items
(`evals.items`), the pairing of items (`evals.gate.pairing`) and the arithmetic (`evals.statistics`, `evals.sequential`), and with rules 3,
which does not change either, its words and the validity of evidence. They know nothing
of items that were drawn with unequal chances (`evals.drawing`), which no verdict of theirs has seen.
"""
