"""Pure: what is true, and what is allowed."""
