"""Closed-loop evaluation: episodes, their journal, their results."""
