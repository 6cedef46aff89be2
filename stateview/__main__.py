"""`python -m stateview`."""

from .cli import entry

entry()
