"""Tokenizer, chat template and model facts, for validation and doctor."""
