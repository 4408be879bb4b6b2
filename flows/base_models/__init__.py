"""The base model: a folder, a Hugging Face id, or one of two included models."""
