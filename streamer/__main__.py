"""`python -m streamer` is `har-stream`."""

from streamer.cli import main

main()
