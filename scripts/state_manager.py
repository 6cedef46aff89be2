#!/usr/bin/env python3
"""A thin door to the stateview command, for skills that call scripts: `python scripts/state_manager.py save …`."""

import sys

try:
    from stateview.cli import entry
except ImportError:
    sys.exit("state_manager.py: stateview is not installed. Run: pip install . (in the folder above this script's)")

entry()
