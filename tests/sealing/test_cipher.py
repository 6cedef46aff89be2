"""XAES-256-GCM: known answers, changes of every bit, and nothing of a key in what a program shows."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from stateview.sealing import cipher
from stateview.sealing.cipher import OVERHEAD_BYTES, Secret, join_fields, new_key

DATA = Path(__file__).parent.parent / "data" / "sealing"
VECTORS = json.loads((DATA / "sealed.json").read_text())["messages"]
NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"


@pytest.mark.parametrize(
    ("key", "associated", "ciphertext"),
    [
        (b"\1" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (b"\3" * 32, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ],
    ids=["K1 without carry", "K1 with carry"],
)
def test_the_vectors_of_c2sp_open(key, associated, ciphertext):
    assert cipher.open(Secret(key), NONCE + bytes.fromhex(ciphertext), associated) == b"XAES-256-GCM"


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_messages_that_the_openssl_command_sealed_open(vector):
    key, associated, plaintext, sealed = (
        bytes.fromhex(vector[name]) for name in ("key", "associated", "plaintext", "sealed")
    )
    assert cipher.open(Secret(key), sealed, associated) == plaintext


def test_every_flipped_bit_and_every_cut_is_an_error():
    key = new_key()
    sealed = cipher.seal(key, b"plain text", b"place")
    assert cipher.open(key, sealed, b"place") == b"plain text"
    assert len(sealed) == OVERHEAD_BYTES + 10
    for bit in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            cipher.open(key, bytes(flipped), b"place")
    for size in range(len(sealed)):
        with pytest.raises(ValueError):
            cipher.open(key, sealed[:size], b"place")
    for other_key, associated in ((new_key(), b"place"), (key, b"Place"), (key, b"")):
        with pytest.raises(ValueError):
            cipher.open(other_key, sealed, associated)


def test_no_two_messages_share_a_nonce_or_half_of_one():
    key = new_key()
    nonces = [cipher.seal(key, b"", b"")[: cipher.NONCE_BYTES] for _ in range(10_000)]
    assert [len({nonce[part] for nonce in nonces}) for part in (slice(12), slice(12, 24))] == [10_000, 10_000]


def test_different_fields_never_join_to_the_same_bytes():
    parts = [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (b"", b"abc"), join_fields(b"ab", b"c")]
    joined = [join_fields(part) if isinstance(part, bytes) else join_fields(*part) for part in parts]
    assert len(set(joined)) == len(parts)


def test_a_secret_is_not_shown_pickled_copied_or_hashed():
    secret = Secret(b"the key material")
    assert "material" not in f"{secret!r} {secret} {[secret]}"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy, hash):
        with pytest.raises(TypeError):
            leak(secret)
    assert secret == Secret(b"the key material") != Secret(b"the key materiaL")


def test_without_cryptography_an_error_says_what_to_install():
    code = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
import stateview.sealing.keyring as keyring, stateview.sealing.keys as keys
from datetime import UTC, datetime
from stateview.errors import BackendError
key = keys.UserKey.generate()
try:
    keyring.create("n", keys.UserKey.parse(key.printed()), "laptop", datetime.now(UTC))
except BackendError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "encryption needs the package cryptography, which cannot be imported."
        " Install it: pip install 'stateview[encryption]'\n"
    )
