"""A fleet that comes and goes for as long as one likes, and what it leaves behind: `python -m tests.soak`."""
