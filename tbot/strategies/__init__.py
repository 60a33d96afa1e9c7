"""Pure: what we would like."""
