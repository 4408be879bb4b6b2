"""What is carried from round to round: input moments, written directions, calibration text, replay buffer."""
