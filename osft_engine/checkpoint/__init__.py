"""Reading and writing model folders, updates as factors, LoRA adapters."""
