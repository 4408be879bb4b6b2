"""Evaluation of a checkpoint on suites, by lm-eval at one edge."""
