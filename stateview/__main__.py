"""`python -m stateview`."""

from .cli.program import entry

entry()
