"""From windows to a network, its temperature, its chain and its thresholds."""
