"""Readers of public data sets: recordings as a watch would have sent them, with their labels."""
