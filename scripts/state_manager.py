#!/usr/bin/env python3
"""Run the stateview command, for skills that call scripts: `python scripts/state_manager.py save KEY VALUE`."""

import sys

try:
    from stateview.cli.program import entry
except ImportError:
    sys.exit("state_manager.py: stateview is not installed. Run: pip install . (in the folder above this script's)")

entry()
