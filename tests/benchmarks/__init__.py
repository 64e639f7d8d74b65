"""Measurements anyone can rerun; each prints its figures as JSON."""
