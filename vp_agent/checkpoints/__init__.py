"""Checkpoints of other programs, as parts of this package's network."""
