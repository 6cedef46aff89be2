"""User keys: what is typed wrong is noticed, what is absurd is refused, and nothing shows a key."""

import string
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stateview import InvalidArgument
from stateview.sealing.cipher import Secret
from stateview.sealing.keys import DEFAULT_N, MAX_SCRYPT_BYTES, MIN_N, Scrypt, UserKey

SALT = "00" * 16
KEY = UserKey(Secret(bytes(range(32))))


@given(st.binary(min_size=32, max_size=32))
def test_a_printed_key_is_read_back(material):
    printed = UserKey(Secret(material)).printed()
    assert len(printed) == 74 and printed.startswith("svk1-")
    for typed in (printed, printed.upper(), f" {printed}\n", "svk1-" + printed[5:].replace("-", ""),
                  printed[:9] + " " + printed[10:]):  # fmt: skip
        assert UserKey.parse(typed).identify(None) == UserKey(Secret(material)).identify(None)


def test_every_wrong_character_is_noticed_and_not_shown():
    printed = KEY.printed()
    typed = string.ascii_lowercase + string.digits + "é"
    for at in range(5, len(printed)):
        if printed[at] != "-":
            for character in set(typed) - {printed[at]}:
                with pytest.raises(InvalidArgument) as caught:
                    UserKey.parse(printed[:at] + character + printed[at + 1 :])
                assert printed[5:9] not in str(caught.value) and printed[-4:] not in str(caught.value)


def test_two_characters_that_changed_places_are_noticed():
    printed = KEY.printed()
    for at in range(5, len(printed) - 1):
        swapped = printed[:at] + printed[at + 1] + printed[at] + printed[at + 2 :]
        if swapped.replace("-", "") != printed.replace("-", ""):
            with pytest.raises(InvalidArgument):
                UserKey.parse(swapped)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begins neither with svk1- nor with passphrase:"),
        ("correct horse battery staple", "begins neither"),
        ("passphrase:", "at least 8 characters"),
        ("passphrase: 1234567 ", "at least 8 characters"),
        ("svk1-", "it has 0 characters after svk1-, instead of 56"),
        (KEY.printed()[:-1], "it has 55 characters"),
        (KEY.printed()[:-1] + "1", "a character that no key has"),
    ],
)
def test_what_is_no_key_is_refused_with_the_reason(text, why):
    with pytest.raises(InvalidArgument, match=why):
        UserKey.parse(text)


def test_the_derivation_is_that_of_rfc_7914():
    # openssl kdf -keylen 32 -kdfopt pass:pleaseletmein -kdfopt salt:'SodiumChloride!!' -kdfopt n:16384 -kdfopt r:8
    # -kdfopt p:1 SCRYPT. With the salt of the RFC, which is too short here, the command prints what the RFC has.
    derived = Scrypt(b"SodiumChloride!!".hex(), 1 << 14).derive(Secret(b"pleaseletmein"))
    assert derived.reveal().hex() == "5266323433bf611b859ac800e892b96da335a93270d5b16f5f66ab7b50f63817"


def test_a_passphrase_is_the_same_however_its_accents_are_typed():
    typed = ("cafe\u0301 au lait", "caf\u00e9 au lait ", "cafe au lait")
    first, second, third = (UserKey.parse(f"passphrase:{words}")._secret for words in typed)
    assert first == second != third


def test_a_new_passphrase_has_its_own_salt_and_the_default_parameters():
    first, second = (UserKey.parse("passphrase:the same words").scrypt for _ in range(2))
    assert first.salt != second.salt and len(first.salt) == 32
    assert (first.n, first.r, first.p) == (DEFAULT_N, 8, 1) == (2**17, 8, 1)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n": 0}, {"n": -2}, {"n": 1}, {"n": 1 << 13}, {"n": (1 << 17) + 1}, {"n": 1 << 19}, {"n": 1 << 200},
        {"r": 0}, {"r": -1}, {"r": 17}, {"r": 1 << 40}, {"p": 0}, {"p": -1}, {"p": 5}, {"p": 1 << 40},
        {"salt": ""}, {"salt": "00" * 15}, {"salt": "00" * 65}, {"salt": "zz" * 16}, {"salt": "é" * 32},
    ],
    ids=str,
)  # fmt: skip
def test_unusable_parameters_are_refused_before_memory_is_taken(parameters):
    scrypt = Scrypt(**{"salt": SALT, **parameters})
    tracemalloc.start()
    try:
        for refused in (scrypt.check, lambda: scrypt.derive(Secret(b"words"))):
            with pytest.raises(ValueError):
                refused()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_all_parameters_that_are_allowed_take_at_most_256_mib():
    allowed = []
    for n in (1 << power for power in range(10, 24)):
        for r in range(1, 70):
            try:
                Scrypt(SALT, n, r).check()
            except ValueError:
                continue
            allowed.append(128 * n * r)
    assert max(allowed) == MAX_SCRYPT_BYTES == 256 << 20


@pytest.mark.stress
def test_the_largest_derivation_that_is_allowed_runs():
    assert len(Scrypt(SALT, 1 << 18, 8, 2).derive(Secret(b"words")).reveal()) == 32


def test_a_passphrase_is_derived_once_for_each_salt(monkeypatch):
    calls = []
    derive = Scrypt.derive
    monkeypatch.setattr(Scrypt, "derive", lambda self, secret: calls.append(self) or derive(self, secret))
    key = UserKey.parse("passphrase:correct horse")
    assert len({key.identify(Scrypt(SALT, MIN_N))[0] for _ in range(3)}) == len(calls) == 1


def test_the_repr_tells_the_kind_alone():
    assert repr(KEY) == "UserKey(random)"
    assert repr(UserKey.parse("passphrase:correct horse")) == "UserKey(passphrase)"
    with pytest.raises(InvalidArgument):
        UserKey.parse("passphrase:correct horse").printed()
