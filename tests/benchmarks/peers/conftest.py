"""Keeps pytest from importing what needs packages that only a comparison installs."""

collect_ignore = ["bytewax_flow.py"]
