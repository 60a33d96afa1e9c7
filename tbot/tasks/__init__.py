"""Trio tasks: who waits for what."""
