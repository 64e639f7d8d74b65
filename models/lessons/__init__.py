"""Teaching a finished model by somebody's own recordings."""
