"""One table of commands, from which the CLI is made, and the other faces."""
