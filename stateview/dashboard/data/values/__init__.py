"""A JSON value on the screen: its rows, excerpts, search and copies. No terminal code."""
