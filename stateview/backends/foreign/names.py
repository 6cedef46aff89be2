"""Names for what another program names freely: legal namespaces, checkpoints and keys. Different ones stay so."""

from __future__ import annotations

from hashlib import sha256

from ...model import MAX_KEY_BYTES, is_key, is_name

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_OWN = ("x..", "s..", "h..")  # what an encoded namespace starts with
MAX_NAME = 128


def namespace_name(thread: str, part: str = "") -> str:
    """Return the namespace that shows a thread, or a part of it. Different threads have different namespaces.

    A thread's name that is a legal namespace stays as it is. In another name each byte that is no letter, digit, `_` or
    `-` becomes `.` with two hexadecimal digits, after `x..`. A part follows after `..`, and then `s..` comes first. Of
    what is too long even so, the name is `h..` and the SHA-256 of that.
    """
    if not part and is_name(thread) and not thread.startswith(_OWN):
        return thread
    name = f"s..{_escaped(thread)}..{_escaped(part)}" if part else f"x..{_escaped(thread)}"
    return name if len(name) <= MAX_NAME else f"h..{sha256(name.encode()).hexdigest()}"


def checkpoint_name(identifier: str) -> str:
    """Return the name of the checkpoint that has an identifier: `c-` and the identifier, escaped as in namespaces."""
    name = f"c-{_escaped(identifier)}"
    return name if len(name) <= MAX_NAME else f"c-h..{sha256(name.encode()).hexdigest()}"


def _escaped(text: str) -> str:
    if _PLAIN.issuperset(text):
        return text
    return "".join(chr(byte) if chr(byte) in _PLAIN else f".{byte:02X}" for byte in text.encode(errors="surrogatepass"))


def key_name(text: str) -> str:
    """Return the key that shows a name. Different names have different keys.

    A name stays as it is, unless it has a NUL or one of `%00`, `%25`, `%~`: then `%` becomes `%25`, and NUL `%00`. Of a
    name that is too long for a key, the rest is replaced by `%~` and its SHA-256.
    """
    if "\0" in text or "%00" in text or "%25" in text or "%~" in text:
        text = text.replace("%", "%25").replace("\0", "%00")
    encoded = text.encode(errors="replace")
    if len(encoded) <= MAX_KEY_BYTES:
        return encoded.decode()
    start = encoded[: MAX_KEY_BYTES - 66].decode(errors="ignore")
    return f"{start}%~{sha256(encoded).hexdigest()}"


def bytes_key(data: bytes) -> str:
    """Return the key that shows a name of bytes. Different names have different keys.

    Text stays as it is, unless it starts with `$`. Then it follows `$str/`. What is no text, or has a NUL, follows
    `$bytes/` in hexadecimal digits. What is too long has the key `$odd/SHA256`.
    """
    if data.isascii() and data[:1] != b"$" and b"\0" not in data and 0 < len(data) <= MAX_KEY_BYTES:
        return data.decode()  # nearly all names: a server has a million of them
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    name = f"$str/{text}" if text.startswith("$") else text
    if is_key(name):
        return name
    name = f"$bytes/{data.hex()}"
    return name if is_key(name) else f"$odd/{sha256(data).hexdigest()}"
