"""What a user would otherwise write, run against har-stream under the same load."""
