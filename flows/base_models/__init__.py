"""The base model: a folder, a Hugging Face id, or one of the two that ship."""
