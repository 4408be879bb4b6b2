"""What earlier rounds learned, carried along: moments, written spaces, calibration, replay buffer."""
