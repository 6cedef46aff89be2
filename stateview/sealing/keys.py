"""User keys: 32 random bytes in a form that can be typed, or a passphrase.

A printed key is `svk1-` and 14 groups of four characters of base32 (RFC 4648): the 32 bytes, and the first 3 bytes of
their SHA-256. Hyphens, spaces and the case of letters do not matter. A wrong character is noticed, but for one in 16
million. A passphrase is `passphrase:` and the words. scrypt (RFC 7914) derives the key from it. The parameters and the
salt are stored with what the key wraps, and checked before use.
"""

from __future__ import annotations

import os
from base64 import b32decode, b32encode
from hashlib import scrypt, sha256
from hmac import digest
from unicodedata import normalize

from msgspec import Struct

from ..errors import InvalidArgument
from .cipher import KEY_BYTES, Secret, new_key

PREFIX = "svk1-"
PASSPHRASE = "passphrase:"
MAX_SCRYPT_BYTES = 256 << 20
DEFAULT_N = 1 << 17  # with r=8 and p=1: 128 MiB and 0.5 s for each guess
MIN_N = 1 << 14
_MAX_WORK = 1 << 22  # of N * r * p, four times the default
_MIN_PASSPHRASE = 8
_KEY_CHARACTERS = 56
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_HINT = "Give what 'stateview key new' printed, or passphrase:WORDS"


class Scrypt(Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the salt, in hexadecimal digits, and the parameters of one derivation. It takes 128 * n * r bytes."""

    salt: str
    n: int = DEFAULT_N
    r: int = 8
    p: int = 1

    def check(self) -> None:
        """Refuse what takes too much memory or time, or is no parameter of scrypt.

        Raises:
            ValueError: the parameters are not usable.

        """
        fits = self.n >= MIN_N and self.n & (self.n - 1) == 0 and self.r > 0 and self.p > 0
        if not fits or 128 * self.n * self.r > MAX_SCRYPT_BYTES or self.n * self.r * self.p > _MAX_WORK:
            raise ValueError("the parameters of scrypt are out of bounds")
        if not 16 <= len(bytes.fromhex(self.salt)) <= 64:
            raise ValueError("the salt has another size")

    def derive(self, passphrase: Secret) -> Secret:
        """Derive a key. It takes 128 MiB and 0.5 s with the default parameters."""
        self.check()
        salt = bytes.fromhex(self.salt)
        maxmem = MAX_SCRYPT_BYTES + (1 << 20)  # OpenSSL counts some buffers, too
        return Secret(
            scrypt(passphrase.reveal(), salt=salt, n=self.n, r=self.r, p=self.p, maxmem=maxmem, dklen=KEY_BYTES)
        )


class UserKey:
    """A key of a user. Its repr tells only what kind it is.

    Args:
        secret: the 32 bytes, or the passphrase.
        scrypt: how to derive the key of a passphrase where nothing is stored yet; None for 32 bytes.

    """

    def __init__(self, secret: Secret, scrypt: Scrypt | None = None) -> None:
        self._secret = secret
        self.scrypt = scrypt
        self._derived: dict[Scrypt, Secret] = {}

    def __repr__(self) -> str:
        return f"UserKey({'passphrase' if self.scrypt else 'random'})"

    @classmethod
    def generate(cls) -> UserKey:
        """Make a random key."""
        return cls(new_key())

    @classmethod
    def parse(cls, text: str, n: int = DEFAULT_N) -> UserKey:
        """Read a key as a user gives it. `n` is the cost of a new passphrase.

        Raises:
            InvalidArgument: it is neither a printed key nor a passphrase. The error does not show it.

        """
        found = _read(text.strip(), n)
        del text  # some tracebacks show local variables
        if isinstance(found, str):
            raise InvalidArgument(f"the encryption key is not usable: {found}", _HINT)
        return found

    def printed(self) -> str:
        """Return the form that `parse` reads.

        Raises:
            InvalidArgument: the key is a passphrase.

        """
        if self.scrypt:
            raise InvalidArgument("a passphrase has no printed form", "Keep the words that you chose")
        encoded = b32encode(self._secret.reveal() + _checksum(self._secret.reveal())).decode().lower()
        return PREFIX + "-".join(encoded[at : at + 4] for at in range(0, _KEY_CHARACTERS, 4))

    def identify(self, scrypt: Scrypt | None) -> tuple[str, Secret]:
        """Return the public id of the key, and the key that wraps data keys.

        The id is a one-way function of the key: to test a guess of a passphrase by it takes one derivation, too. A
        derivation is done once for each salt.

        Args:
            scrypt: the stored salt and parameters; None for 32 random bytes.

        """
        if scrypt is None:
            root = self._secret
        elif (known := self._derived.get(scrypt)) is not None:
            root = known
        else:
            root = self._derived[scrypt] = scrypt.derive(self._secret)
        key_id = digest(root.reveal(), b"stateview id of a user key", "sha256")[:6].hex()
        return key_id, Secret(digest(root.reveal(), b"stateview wrapping key", "sha256"))


def _read(text: str, n: int) -> UserKey | str:
    """Return the key, or what is wrong with the text."""
    if text.startswith(PASSPHRASE):
        words = normalize("NFKC", text.removeprefix(PASSPHRASE).strip())  # keyboards spell accents differently
        if len(words) < _MIN_PASSPHRASE:
            return f"a passphrase has at least {_MIN_PASSPHRASE} characters"
        return UserKey(Secret(words.encode("utf-8", "surrogatepass")), Scrypt(os.urandom(16).hex(), n))
    if not text.lower().startswith(PREFIX):
        return f"it begins neither with {PREFIX} nor with {PASSPHRASE}"
    typed = "".join(text[len(PREFIX) :].upper().replace("-", " ").split())
    if len(typed) != _KEY_CHARACTERS:
        return f"it has {len(typed)} characters after {PREFIX}, instead of {_KEY_CHARACTERS}"
    if not _ALPHABET.issuperset(typed):
        return "it has a character that no key has: a key has the letters, and the digits 2 to 7"
    secret = Secret(b32decode(typed)[:KEY_BYTES])
    if _checksum(secret.reveal()) != b32decode(typed)[KEY_BYTES:]:
        return "one of its characters is wrong"
    return UserKey(secret)


def _checksum(key: bytes) -> bytes:
    return sha256(key).digest()[:3]
