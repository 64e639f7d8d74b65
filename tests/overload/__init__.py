"""More than a service can take, and what it costs those who behave: `python -m tests.overload`."""
