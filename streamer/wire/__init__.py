"""Payload formats: bytes to `ImuBatch`, `ActivityEvent` to bytes, and the topics they travel on."""
