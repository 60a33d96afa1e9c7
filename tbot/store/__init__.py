"""What survives: journal and checkpoints."""
