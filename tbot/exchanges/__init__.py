"""The far side, behind one protocol."""
