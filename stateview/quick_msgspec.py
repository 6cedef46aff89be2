"""Import msgspec without `typing_extensions`, which would take a fifth of the time of a `stateview load`.

msgspec takes three names from it, and falls back to `typing`, which has them since Python 3.11. The module is hidden
only if no other thread can want it, and only for the time of the import.
"""

import importlib
import sys
import threading

if "msgspec" not in sys.modules and "typing_extensions" not in sys.modules and threading.active_count() == 1:
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("msgspec")
    finally:
        del sys.modules["typing_extensions"]
