"""The data contract: reading it, its rules, and what changed between two versions."""
