"""Recordings in files: one module per format, all made into recordings, and held to the same limits, by `rows`."""
