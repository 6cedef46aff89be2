"""Redaction: the screen masks each value whose key, or whose name inside an object, matches a glob, or is a secret's.

The globs are those of `redact` in `stateview.toml`. `SECRETS` stands among them for the names of secrets, such as
`api_key` or `userPassword`. A user can show what `SECRETS` masks, and never what a glob masks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from re import Pattern
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from ...model import ABSENT
from ...states.matching.patterns import compile_globs
from ...states.values.pointers import escape_token

if TYPE_CHECKING:
    from ...settings import Settings

MASK = "••••••"  # of one length, so that it does not give away the length of a value
SECRETS = "\0secrets"  # no key holds NUL
_PART = re.compile("token|passw|passphrase|secret|credential|authorization|key", re.IGNORECASE)  # few names have one
_WORD_EDGE = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^\w:/]+")
# A segment of a key, or a name, that ends with such words: `token_count` and `tokens` are numbers of something
_SECRET = re.compile(
    r"(?:^|[_:/])(?:token|passwords?|passwd|passphrase|secrets?|credentials?|authorization"
    r"|(?:api|access|private|secret)_*keys?)[_\d]*(?=$|[:/])"
)


@lru_cache(maxsize=8)
def _pattern(patterns: tuple[str, ...]) -> Pattern[str] | None:
    globs = without_secrets(patterns)
    return compile_globs(*globs, ignore_case=True) if globs else None


def patterns_of(config: Settings) -> tuple[str, ...]:
    """Return what the dashboard masks: the globs of the settings, and the names of secrets unless they turn it off."""
    return (*config.redact(), *([SECRETS] if config.mask_secrets() else []))


def without_secrets(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the globs alone: what stays masked after a user has shown the secrets."""
    return tuple(pattern for pattern in patterns if pattern != SECRETS)


def is_redacted(name: str, patterns: tuple[str, ...], *values: Any) -> bool:
    """Return whether the value of a name is masked.

    Args:
        name: a key, or the name of an object's member.
        patterns: globs such as `*token*`, and `SECRETS`. Case is ignored.
        values: the value, decoded or encoded, or its versions. `SECRETS` masks no number, boolean or null: agents
            count tokens under such names. Without a value, it may be a text.

    """
    if not patterns:
        return False
    globs = _pattern(patterns)
    if globs is not None and globs.match(name) is not None:
        return True
    return SECRETS in patterns and _names_secret(name) and not (values and all(map(_is_plain, values)))


def _names_secret(name: str) -> bool:
    return _PART.search(name) is not None and _SECRET.search(_WORD_EDGE.sub("_", name).lower()) is not None


def _is_plain(value: Any) -> bool:
    if isinstance(value, (bytes, Raw)):
        return bytes(memoryview(value)[:1]) not in (b"", b'"', b"{", b"[")
    return value is None or value is ABSENT or isinstance(value, (bool, int, float))


def masked_places(value: Any, patterns: tuple[str, ...]) -> Iterator[str]:
    """Yield the JSON Pointers of the masked members of a decoded value, not those inside masked members. O(size)."""
    pending: list[tuple[str, Any]] = [("", value)] if patterns else []
    while pending:
        pointer, box = pending.pop()
        if isinstance(box, dict):
            for name, item in box.items():
                if is_redacted(name, patterns, item):
                    yield f"{pointer}/{escape_token(name)}"
                elif isinstance(item, (dict, list)):
                    pending.append((f"{pointer}/{escape_token(name)}", item))
        elif isinstance(box, list):
            pending += ((f"{pointer}/{at}", item) for at, item in enumerate(box) if isinstance(item, (dict, list)))


def without_masked(value: Any, patterns: tuple[str, ...]) -> Any:
    """Return a decoded value with each masked member replaced by `••••••`. O(size).

    Use the result on a screen only. Never save it.
    """
    if not patterns:
        return value
    if isinstance(value, dict):
        return {
            name: MASK if is_redacted(name, patterns, item) else without_masked(item, patterns)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [without_masked(item, patterns) for item in value]
    return value
