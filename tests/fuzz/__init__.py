"""Generated input for everything that reads what came from outside: `python -m tests.fuzz --help`."""
