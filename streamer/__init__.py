"""har-stream's service: readings of motion sensors in, activity events out."""
