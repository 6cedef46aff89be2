"""Globs, ranked words and regular expressions over names and texts. No I/O."""
