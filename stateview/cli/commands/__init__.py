"""One handler per command; `cli.definition` says which."""
