"""Start the engine as a separate process, watch it, and stop it with its flow."""
