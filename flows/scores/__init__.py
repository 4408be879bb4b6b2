"""Which scores the gate is shown, and how many items a decision needs."""
