"""Tests against real brokers, Prometheus and the programs as a user starts them."""
