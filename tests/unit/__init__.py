"""Tests that need nothing but the packages themselves."""
