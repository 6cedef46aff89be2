"""Name this process, and tell whether a process of this host is gone."""

from __future__ import annotations

import os
import sys
from functools import lru_cache


def host_name() -> str:
    """Return the name of this host, for people."""
    return os.uname().nodename


@lru_cache(1)
def _boot() -> str:
    """Return a text that tells this boot of this host from all others; "" where the system does not say."""
    if sys.platform == "darwin":
        import subprocess

        words = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        try:
            return subprocess.run(words, check=False, capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        # Containers share the boot of their host, and count their processes each for itself.
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except (OSError, ValueError):
        return ""


def host_id() -> str:
    """Return a text that two processes share only if each can see the other by its id; "" if that is not known."""
    return _boot()


def started(process: int) -> str:
    """Return when a process of this host started, in the system's own form.

    Process ids are used again: an id and this text together name one process.

    Returns:
        "" if there is no such process, or "?" if the system does not say when it started.

    """
    if sys.platform == "linux":
        try:
            with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()  # the name before it may hold anything
            if fields[0] in "ZX" and len(os.listdir(f"/proc/{process}/task")) < 2:
                return ""  # it has ended, and its parent has not asked yet
            return fields[19]
        except (FileNotFoundError, ProcessLookupError):
            return ""
        except (OSError, IndexError):
            return "?"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "?"


def is_gone(process: int, start: str) -> bool:
    """Return whether the process of this host that had this id and start is known to have ended."""
    found = started(process)
    return found == "" or ("?" not in (found, start) and found != start)
