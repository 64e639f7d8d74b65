"""The live page: what the service knows of its watches right now, for people with a browser."""
