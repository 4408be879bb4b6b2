"""The engine as a process of its own: which command starts it, who watches over it, and what becomes of it when its flow ends."""
