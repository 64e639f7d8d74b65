"""Recordings to the windows that models learn from: read, varied, generated."""
