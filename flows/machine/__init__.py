"""What a process needs of its machine: disk space, environment, progress, retries."""
