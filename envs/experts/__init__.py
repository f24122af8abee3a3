"""Scripted experts on privileged state."""
