"""From a drop to batches of token ids."""
