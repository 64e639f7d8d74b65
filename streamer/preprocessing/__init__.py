"""The parity package: readings to windows, the same for training, evaluation and the live stream."""
