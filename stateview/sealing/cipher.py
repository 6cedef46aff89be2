"""Seal bytes with XAES-256-GCM, as C2SP specifies it (c2sp.org/XAES-256-GCM).

The first 12 bytes of a nonce go into the key of the message, by two blocks of CMAC (NIST SP 800-108r1). The last 12
bytes are the nonce of AES-256-GCM (NIST SP 800-38D) under that key.

Nonces never repeat under a data key, because each has 192 random bits. After n messages the chance of a repeated nonce
is about n**2 / 2**193. A million messages a second for a century are 2**52 messages, and the chance is below 2**-88.
AES-GCM alone has 96 bits: there SP 800-38D stops at 2**32 messages. A counter would not do. Many processes and machines
write under one data key, and a store that is restored from a backup would count the same numbers again.
"""

from __future__ import annotations

import os
from hmac import compare_digest
from typing import TYPE_CHECKING, NoReturn

from ..errors import BackendError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 24
OVERHEAD_BYTES = NONCE_BYTES + 16  # the tag


class Secret:
    """Hold key material, so that no repr, log, traceback or pickle shows it."""

    __slots__ = ("_material",)

    def __init__(self, material: bytes) -> None:
        self._material = material

    def reveal(self) -> bytes:
        """Return the key material. Pass it on at once: a local variable is shown by some tracebacks."""
        return self._material

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(self._material, other._material)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("key material is not pickled or copied")


def new_key() -> Secret:
    """Make a random key."""
    return Secret(os.urandom(KEY_BYTES))


def join_fields(*fields: bytes) -> bytes:
    """Join fields, so that different fields never give the same bytes: the length stands before each."""
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)


def seal(data_key: Secret, plaintext: bytes, associated: bytes) -> bytes:
    """Return a new nonce and the ciphertext. O(size of both inputs): 20 µs, and 0.1 ms for 300 KB.

    Args:
        data_key: 32 bytes.
        plaintext: what is sealed.
        associated: what `open` must give again. It is not part of the result.

    Raises:
        BackendError: the package `cryptography` is not installed.

    """
    nonce = os.urandom(NONCE_BYTES)
    return nonce + _message_cipher(data_key, nonce).encrypt(nonce[12:], plaintext, associated)


def open(data_key: Secret, sealed: bytes, associated: bytes) -> bytes:
    """Return what was sealed. The same cost as `seal`.

    Raises:
        ValueError: `seal` did not return these bytes for this key and this associated data.
        BackendError: the package `cryptography` is not installed.

    """
    nonce = sealed[:NONCE_BYTES]
    if len(sealed) >= OVERHEAD_BYTES:
        message_cipher = _message_cipher(data_key, nonce)
        from cryptography.exceptions import InvalidTag

        try:
            return message_cipher.decrypt(nonce[12:], sealed[NONCE_BYTES:], associated)
        except InvalidTag:
            pass
    raise ValueError("sealed bytes were changed, moved, or sealed under another key")


def _message_cipher(data_key: Secret, nonce: bytes) -> AESGCM:
    """Derive the key of one message from the data key and the first half of its nonce."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        message = "encryption needs the package cryptography, which cannot be imported"
        raise BackendError(message, "Install it: pip install 'stateview[encryption]'") from error
    encrypt = Cipher(algorithms.AES256(data_key.reveal()), modes.ECB()).encryptor().update
    mask = int.from_bytes(encrypt(bytes(16)), "big") << 1  # the subkey K1 of CMAC
    if mask >> 128:
        mask ^= 1 << 128 | 0x87
    blocks = [int.from_bytes(bytes((0, count, 0x58, 0)) + nonce[:12], "big") ^ mask for count in (1, 2)]
    return AESGCM(encrypt(b"".join(block.to_bytes(16, "big") for block in blocks)))
