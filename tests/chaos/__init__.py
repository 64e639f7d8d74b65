"""Faults against a running service, and an oracle that says whether anything was lost: `python -m tests.chaos`."""
