"""Previews: what a command would change in live, to be marked before it is written."""
