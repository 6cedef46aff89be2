"""The sealed form of values, deltas and texts: it opens at its own place alone."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stateview import Damaged
from stateview.backends.stored_values import SEALED_START, SEALED_TEXT_START
from stateview.sealing.cipher import new_key
from stateview.sealing.keyring import decode, unlock
from stateview.sealing.keys import UserKey
from stateview.sealing.sealed_form import (
    DataKeys,
    Place,
    Purpose,
    Sealer,
    sealed_text,
    sealed_value,
    text_form,
    value_form,
)

VECTORS = json.loads((Path(__file__).parent.parent / "data" / "sealing" / "sealed.json").read_text())
KEYS = {b"key1": new_key(), b"key2": new_key()}
SEALER = Sealer(DataKeys(b"key1", KEYS), "build")
VALUE = Place(Purpose.VALUE, 7, "a")
PLACES = st.builds(
    Place, st.sampled_from(Purpose), st.integers(0, 1 << 63), st.text("aé\0:", max_size=3), st.integers(0, 9)
)


@pytest.mark.parametrize("user_key", VECTORS["user_keys"], ids=["random", "passphrase"])
def test_forms_and_a_keyring_that_another_program_made_open(user_key):
    ring = decode(VECTORS["keyring"].encode())
    data_keys = unlock(ring, VECTORS["namespace"], UserKey.parse(user_key))
    assert {key_id.hex(): key.reveal().hex() for key_id, key in data_keys.by_id.items()} == VECTORS["data_keys"]
    sealer = Sealer(data_keys, VECTORS["namespace"])
    for form in VECTORS["forms"]:
        place = Place(Purpose(form["purpose"]), form["revision"], form["key"], form["base"])
        assert sealer.open(bytes.fromhex(form["sealed"]), place).hex() == form["content"]


@given(st.binary() | st.builds(bytes.__mul__, st.binary(max_size=30), st.integers(0, 300)), PLACES)
def test_what_is_sealed_comes_back(content, place):
    sealed = SEALER.seal(content, place)
    assert SEALER.open(sealed, place) == content
    assert len(sealed) <= len(content) + 46
    stored = SEALER.seal_value(content, place)
    assert list(json.loads(stored)) == ["$sealed"]
    assert SEALER.open_value(stored, place) == content


@given(st.text('a é\n\U0001f512"$'), PLACES)
def test_texts_come_back(text, place):
    stored = SEALER.seal_text(text, place)
    assert stored.isascii() and stored.startswith("$sealed:")
    assert SEALER.open_text(stored, place) == text


@given(PLACES, PLACES)
def test_a_form_opens_at_its_own_place_alone(place, other):
    sealed = SEALER.seal(b"1", place)
    if place != other:
        with pytest.raises(Damaged):
            SEALER.open(sealed, other)


@pytest.mark.parametrize(
    "change", [{"purpose": Purpose.REASON}, {"revision": 8}, {"key": "b"}, {"key": "a\0"}, {"base": 1}], ids=str
)
def test_each_part_of_the_place_counts(change):
    with pytest.raises(Damaged, match="is not what was sealed there"):
        SEALER.open(SEALER.seal(b"1", VALUE), VALUE._replace(**change))


def test_the_namespace_and_the_data_key_count():
    sealed = SEALER.seal(b"1", VALUE)
    for sealer in (
        Sealer(DataKeys(b"key1", KEYS), "Build"),
        Sealer(DataKeys(b"key1", {b"key1": KEYS[b"key2"]}), "build"),
    ):
        with pytest.raises(Damaged, match="the value of 'a' at revision 7"):
            sealer.open(sealed, VALUE)
    with pytest.raises(Damaged, match="not sealed under a data key of this namespace"):
        Sealer(DataKeys(b"key2", {b"key2": KEYS[b"key2"]}), "build").open(sealed, VALUE)


def test_a_rotation_sees_what_is_under_an_older_data_key():
    sealed = SEALER.seal(b"1", VALUE)
    rotated = Sealer(DataKeys(b"key2", KEYS), "build")
    assert rotated.open(sealed, VALUE) == b"1"
    assert [sealer.is_current(sealed) for sealer in (SEALER, rotated)] == [True, False]
    assert rotated.is_current(rotated.seal(b"1", VALUE))
    assert [SEALER.knows(form) for form in (sealed, b"\1none" + sealed[5:])] == [True, False]


@pytest.mark.parametrize("content", [b"[1,2]", b'{"a":[1,2,3]},' * 40], ids=["plain", "compressed"])
def test_every_flipped_bit_of_a_form_is_an_error(content):
    sealed, stored = SEALER.seal(content, VALUE), SEALER.seal_value(content, VALUE)
    for form, read in ((sealed, SEALER.open), (stored, SEALER.open_value)):
        for bit in range(len(form) * 8):
            flipped = bytearray(form)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(Damaged):
                read(bytes(flipped), VALUE)


def test_what_repeats_is_compressed_first_and_a_delta_is_not_compressed_again():
    content = b'{"name":"value"},' * 100
    assert len(SEALER.seal(content, VALUE)) < 150
    assert len(SEALER.seal(content, Place(Purpose.DELTA, 7, "a", 9))) == len(content) + 46


def test_what_does_not_gain_is_not_compressed():
    content = os.urandom(1000)
    assert len(SEALER.seal(content, VALUE)) == len(content) + 46


@pytest.mark.parametrize("put", ["!", "\n", "=", "é"])
def test_base64_is_read_in_one_spelling_alone(put):
    stored = SEALER.seal_value(b"1", VALUE).decode()
    for at in (12, 30, len(stored) - 2):
        assert sealed_value((stored[:at] + put + stored[at:]).encode()) is None


def test_a_form_is_told_from_plain_values_and_texts_without_a_key():
    sealed = SEALER.seal(b"1", VALUE)
    assert sealed_value(value_form(sealed)) == sealed == sealed_text(text_form(sealed))
    assert value_form(sealed).startswith(SEALED_START)
    assert text_form(sealed).startswith(SEALED_TEXT_START)
    for plain in (b"1", b"{}", b'{"$sealed":1}', b'{"$sealed":"AAAA"}', b'{"$sealed":"' + b"A" * 80 + b'"}'):
        assert sealed_value(plain) is None
        with pytest.raises(Damaged, match="is not sealed, in a namespace that is"):
            SEALER.open_value(plain, VALUE)
    for text in ("", "fix", "$sealed:", "$sealed:AAAA", "$sealed:é", " " + text_form(sealed), text_form(sealed) + "\n"):
        assert sealed_text(text) is None
        with pytest.raises(Damaged):
            SEALER.open_text(text, Place(Purpose.REASON, 7))


def test_an_error_shows_no_content():
    with pytest.raises(Damaged) as caught:
        SEALER.open_value(b'"the secret plan"', VALUE)
    assert "secret plan" not in str(caught.value)
