"""Tests of har-stream: `unit` needs nothing but the packages, `integration` runs real brokers."""
