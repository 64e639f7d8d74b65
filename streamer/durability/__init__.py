"""What survives a SIGKILL: a journal of what was processed, snapshots of the state, and letters nobody could read."""
