"""`python -m tests.benchmarks.peers`."""

from tests.benchmarks.peers.compare import main

main()
