"""The keyring: who opens it, what each act changes, and what somebody without a key cannot change unnoticed."""

import traceback
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from stateview import BackendError, Conflict, Damaged, InvalidArgument
from stateview.cli.exit_codes import ExitCode, exit_code
from stateview.errors import KeyMissing, KeyWrong, Sealed
from stateview.sealing import keyring
from stateview.sealing.keyring import create, decode, encode, unlock
from stateview.sealing.keys import MIN_N, Scrypt, UserKey
from stateview.sealing.sealed_form import Place, Purpose, Sealer

NOW = datetime(2026, 11, 28, 10, tzinfo=UTC)
NS = "build"
FIRST, SECOND, OTHER = UserKey.generate(), UserKey.generate(), UserKey.generate()
RING = create(NS, FIRST, "laptop", NOW)
BOTH = keyring.add(RING, NS, FIRST, SECOND, "server", NOW)


def opens(ring, *keys):
    """The data keys of a ring, which each of the keys must open, read from its bytes."""
    read = decode(encode(ring))
    found = [unlock(read, NS, key) for key in keys]
    assert all(each == found[0] for each in found)
    return found[0]


def test_a_second_key_opens_the_same_data_keys_until_it_is_removed():
    assert opens(BOTH, FIRST, SECOND) == opens(RING, FIRST)
    for name in ("server", BOTH.wrappers[1].id):
        left = keyring.remove(BOTH, NS, FIRST, name)
        assert opens(left, FIRST) == opens(RING, FIRST)
        with pytest.raises(KeyWrong, match="It has laptop"):
            unlock(left, NS, SECOND)


def test_a_key_may_remove_itself_but_not_the_last_one():
    left = keyring.remove(BOTH, NS, FIRST, "laptop")
    assert opens(left, SECOND) == opens(RING, FIRST)
    with pytest.raises(InvalidArgument, match="the last key"):
        keyring.remove(left, NS, SECOND, "server")
    with pytest.raises(InvalidArgument, match=r"no key 'phone'\. It has laptop, server"):
        keyring.remove(BOTH, NS, FIRST, "phone")


def test_a_rotated_key_takes_the_place_and_the_label_and_leaves_the_data_keys():
    ring = keyring.rotate(BOTH, NS, FIRST, OTHER, NOW)
    assert opens(ring, OTHER, SECOND) == opens(BOTH, FIRST)
    assert [wrapper.label for wrapper in ring.wrappers] == ["laptop", "server"]
    assert ring.wrappers[1] == BOTH.wrappers[1]
    with pytest.raises(KeyWrong):
        unlock(ring, NS, FIRST)
    for successor in (FIRST, SECOND):
        with pytest.raises(InvalidArgument):
            keyring.rotate(BOTH, NS, FIRST, successor, NOW)


def test_a_passphrase_opens_beside_a_random_key_and_all_passphrases_share_a_salt():
    words, more = (UserKey.parse(f"passphrase:correct horse {n}", MIN_N) for n in (1, 2))
    ring = keyring.add(RING, NS, FIRST, words, "words", NOW)
    ring = keyring.add(ring, NS, words, more, "more words", NOW)
    assert opens(ring, FIRST, words, UserKey.parse("passphrase:correct horse 2"), more) == opens(RING, FIRST)
    assert [wrapper.scrypt for wrapper in ring.wrappers] == [None, words.scrypt, words.scrypt]
    with pytest.raises(KeyWrong):
        unlock(ring, NS, UserKey.parse("passphrase:correct horse 3"))
    assert [key["kind"] for key in keyring.status(ring)["keys"]] == ["random", "passphrase", "passphrase"]


def test_a_new_data_key_takes_every_user_key_and_the_old_one_goes_at_the_end():
    old = opens(BOTH, FIRST)
    with pytest.raises(InvalidArgument, match="without server"):
        keyring.new_data_key(BOTH, NS, [FIRST])
    ring = keyring.new_data_key(BOTH, NS, [SECOND, FIRST])
    new = opens(ring, FIRST, SECOND)
    assert ring.state == "rotating" and new.current != old.current
    assert new.by_id[old.current] == old.by_id[old.current] != new.by_id[new.current]
    with pytest.raises(Conflict, match="rotating"):
        keyring.new_data_key(ring, NS, [FIRST, SECOND])
    for wrong in (ring.current, "00000000", "x"):
        with pytest.raises(InvalidArgument, match="not a data key that can go"):
            keyring.drop_data_key(ring, NS, FIRST, wrong)
    done = keyring.with_state(keyring.drop_data_key(ring, NS, SECOND, old.current.hex()), NS, SECOND, "sealed")
    assert list(opens(done, FIRST, SECOND).by_id) == [new.current] and done.state == "sealed"


def test_data_keys_that_nobody_drops_are_counted():
    ring = RING
    for _ in range(keyring.MAX_DATA_KEYS - 1):
        ring = keyring.with_state(keyring.new_data_key(ring, NS, [FIRST]), NS, FIRST, "sealed")
    assert len(opens(ring, FIRST).by_id) == keyring.MAX_DATA_KEYS
    with pytest.raises(Conflict, match="16 data keys already"):
        keyring.new_data_key(ring, NS, [FIRST])


def test_user_keys_are_counted():
    ring = replace(RING, wrappers=RING.wrappers * keyring.MAX_WRAPPERS)
    with pytest.raises(Damaged):
        decode(encode(ring))
    ring = RING
    for number in range(keyring.MAX_WRAPPERS - 1):
        ring = keyring.add(ring, NS, FIRST, UserKey.generate(), f"key {number}", NOW)
    opens(ring, FIRST)
    with pytest.raises(InvalidArgument, match="64 keys already"):
        keyring.add(ring, NS, FIRST, OTHER, "one more", NOW)


BAD_LABELS = ["", "x" * 65, "a\nb", "\x1b[31m", "laptop"]


@pytest.mark.parametrize("label", [*BAD_LABELS, pytest.param(RING.wrappers[0].id, id="id")])
def test_a_label_is_short_printable_and_its_own(label):
    with pytest.raises(InvalidArgument):
        keyring.add(RING, NS, FIRST, SECOND, label, NOW)


def test_the_same_key_is_not_added_twice():
    with pytest.raises(InvalidArgument, match="has this key already: 'laptop'"):
        keyring.add(RING, NS, FIRST, UserKey.parse(FIRST.printed()), "again", NOW)


ACTS = {
    "unlock": lambda ring, key: unlock(ring, NS, key),
    "add": lambda ring, key: keyring.add(ring, NS, key, OTHER, "x", NOW),
    "remove": lambda ring, key: keyring.remove(ring, NS, key, "laptop"),
    "rotate": lambda ring, key: keyring.rotate(ring, NS, key, OTHER, NOW),
    "new_data_key": lambda ring, key: keyring.new_data_key(ring, NS, [FIRST, key] if key else []),
    "drop_data_key": lambda ring, key: keyring.drop_data_key(ring, NS, key, "00000000"),
    "with_state": lambda ring, key: keyring.with_state(ring, NS, key, "unsealing"),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_no_act_is_done_without_a_key_of_the_keyring_or_on_a_changed_one(act):
    with pytest.raises(KeyMissing, match="Set STATEVIEW_KEY") as missing:
        act(BOTH, None)
    with pytest.raises(KeyWrong, match="It has laptop, server") as wrong:
        act(BOTH, UserKey.generate())
    for caught in (missing, wrong):
        assert isinstance(caught.value, Sealed) and exit_code(caught.value) is ExitCode.BACKEND
    with pytest.raises(Damaged):
        act(replace(BOTH, state="unsealing"), FIRST)


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "rotate", "new"]), st.integers(0, 9)), max_size=12))
def test_after_any_acts_the_keys_that_are_left_open_it_and_no_others(acts):
    """What was sealed first opens as long as its data key is there."""
    held, gone, ring = {"0": FIRST}, [], RING
    sealed = Sealer(unlock(RING, NS, FIRST), NS).seal(b"1", Place(Purpose.VALUE, 1, "a"))
    for number, (act, choice) in enumerate(acts, 1):
        label, key = list(held.items())[choice % len(held)]
        by = list(held.values())[-1]
        if act == "add":
            held[str(number)] = UserKey.generate()
            ring = keyring.add(ring, NS, by, held[str(number)], str(number), NOW)
        elif act == "remove" and len(held) > 1:
            gone.append(held.pop(label))
            ring = keyring.remove(ring, NS, by, "laptop" if label == "0" else label)
        elif act == "rotate":
            gone.append(key)
            held[label] = UserKey.generate()
            ring = keyring.rotate(ring, NS, key, held[label], NOW)
        elif act == "new":
            ring = keyring.new_data_key(ring, NS, list(held.values()))
            ring = keyring.with_state(ring, NS, by, "sealed")
    assert Sealer(opens(ring, *held.values()), NS).open(sealed, Place(Purpose.VALUE, 1, "a")) == b"1"
    for key in gone:
        with pytest.raises(KeyWrong):
            unlock(ring, NS, key)


def test_the_status_is_plain_data_without_keys():
    assert keyring.status(BOTH) == {
        "state": "sealed",
        "current": BOTH.current,
        "data_keys": [BOTH.current],
        "keys": [
            {"id": wrapper.id, "label": wrapper.label, "created": NOW, "kind": "random"} for wrapper in BOTH.wrappers
        ],
    }


ROTATING = keyring.new_data_key(BOTH, NS, [FIRST, SECOND])
MINE, ITS = ROTATING.wrappers
OLD, NEW = MINE.data_keys
CHANGES = {
    "another current data key": {"current": OLD},
    "another state": {"state": "sealed"},
    "a wrapper removed": {"wrappers": (MINE,)},
    "wrappers in another order": {"wrappers": (ITS, MINE)},
    "a label": {"wrappers": (MINE, replace(ITS, label="x"))},
    "labels swapped": {"wrappers": (replace(MINE, label=ITS.label), replace(ITS, label=MINE.label))},
    "a time": {"wrappers": (MINE, replace(ITS, created=datetime(2020, 1, 1, tzinfo=UTC)))},
    "wrapped keys swapped": {
        "wrappers": (replace(MINE, data_keys=ITS.data_keys), replace(ITS, data_keys=MINE.data_keys))
    },
    "data keys swapped": {
        "wrappers": tuple(
            replace(one, data_keys={OLD: one.data_keys[NEW], NEW: one.data_keys[OLD]}) for one in ROTATING.wrappers
        )
    },
    "a data key removed": {
        "wrappers": tuple(replace(one, data_keys={NEW: one.data_keys[NEW]}) for one in ROTATING.wrappers)
    },
    "the older document's wrappers": {"wrappers": BOTH.wrappers, "current": OLD},
    "another key's ciphertext for somebody else": {"wrappers": (MINE, replace(ITS, data_keys=MINE.data_keys))},
    "no MAC": {"mac": ""},
    "a MAC that is no ASCII": {"mac": "é" * 64},
    "the MAC of the older document": {"mac": BOTH.mac},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_somebody_without_a_key_changes_is_damage(change):
    changed = replace(ROTATING, **change)
    with pytest.raises(Damaged, match="the keyring of the namespace is not what was written"):
        unlock(decode(encode(changed)), NS, FIRST)


def test_the_keyring_of_another_namespace_is_damage():
    with pytest.raises(Damaged):
        unlock(RING, "Build", FIRST)


def test_every_flipped_bit_of_the_document_is_an_error_or_harmless():
    document = encode(RING)
    expected = unlock(RING, NS, FIRST)
    harmless = 0
    for bit in range(len(document) * 8):
        flipped = bytearray(document)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            ring = decode(bytes(flipped))
            assert unlock(ring, NS, FIRST) == expected
        except (Damaged, KeyWrong):
            continue
        except BackendError as error:  # a format of the future
            assert flipped[10:11] != b"1", error
            continue
        harmless += 1
        assert ring == RING
    assert harmless < 10  # such as the letters T and Z of the time in lower case


@given(st.binary(max_size=40) | st.builds(lambda at, put: encode(RING)[:at] + put + encode(RING)[at + len(put) :],
                                          st.integers(0, 350), st.binary(min_size=1, max_size=3)))  # fmt: skip
def test_bytes_that_are_no_keyring_are_an_error(document):
    try:
        assert unlock(decode(document), NS, FIRST) == unlock(RING, NS, FIRST)
    except (Damaged, KeyWrong, BackendError):
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"wrappers": ()},
        {"current": "00000000"},
        {"wrappers": RING.wrappers * 2},
        {"wrappers": (replace(RING.wrappers[0], label="\x1b[31m"),)},
        {"wrappers": (replace(RING.wrappers[0], scrypt=Scrypt("00" * 16, 1 << 30)),)},
        {"wrappers": (replace(RING.wrappers[0], scrypt=Scrypt("00" * 16, p=1 << 30)),)},
        {"wrappers": (replace(RING.wrappers[0], data_keys={"xyz": "AAAA"}),), "current": "xyz"},
        {"format": 0},
        {"wrappers": tuple(
            replace(RING.wrappers[0], id=f"{n}", scrypt=Scrypt(f"{n:032}")) for n in range(keyring.MAX_SALTS + 1)
        )},
    ],
)  # fmt: skip
def test_a_document_out_of_bounds_is_refused_before_a_key_is_asked_for(change):
    with pytest.raises(Damaged):
        decode(encode(replace(RING, **change)))


def test_a_document_that_is_too_large_or_too_deep_is_refused():
    for document in (b" " * keyring.MAX_BYTES + encode(RING), b"[" * 100_000):
        with pytest.raises(Damaged):
            decode(document)


def test_a_field_that_nobody_knows_and_half_a_character_are_refused():
    document = encode(RING)
    for changed in (b'{"more":1,' + document[1:], document.replace(b"laptop", b"\\ud800")):
        with pytest.raises(Damaged):
            unlock(decode(changed), NS, FIRST)


def test_a_later_format_asks_for_an_upgrade():
    document = msgspec.json.encode({"format": 2, "something": "else"})
    with pytest.raises(BackendError, match="Upgrade stateview"):
        decode(document)


def test_no_key_is_in_an_error_its_traceback_or_a_repr():
    words = UserKey.parse("passphrase:correct horse", MIN_N)
    ring = keyring.add(RING, NS, FIRST, words, "words", NOW)
    data_keys = unlock(ring, NS, FIRST)
    sealer = Sealer(data_keys, NS)
    place = Place(Purpose.VALUE, 1, "a")
    broken = replace(ring, wrappers=tuple(replace(one, data_keys={ring.current: "AAAA"}) for one in ring.wrappers))
    materials = [key._secret.reveal() for key in (FIRST, words)] + [key.reveal() for key in data_keys.by_id.values()]
    materials += [key.identify(key.scrypt)[1].reveal() for key in (FIRST, words)]
    materials += [secret.reveal() for secret in words._derived.values()]
    shown = [repr((FIRST, words, ring, data_keys, sealer)), str(vars(FIRST)), str(vars(sealer)), encode(ring).decode()]
    for act in (
        lambda: unlock(broken, NS, FIRST),
        lambda: unlock(broken, NS, words),
        lambda: unlock(replace(ring, mac=""), NS, words),
        lambda: unlock(ring, NS, OTHER),
        lambda: unlock(ring, "other", words),
        lambda: keyring.add(ring, NS, words, FIRST, "again", NOW),
        lambda: keyring.new_data_key(ring, NS, [words]),
        lambda: sealer.open(sealer.seal(b"1", place), place._replace(revision=2)),
        lambda: UserKey.parse(FIRST.printed()[:-1] + "1"),
        lambda: UserKey.parse(FIRST.printed()[:-2]),
        words.printed,
    ):
        error = None
        try:
            act()
        except (Sealed, Damaged, InvalidArgument) as caught:
            error = traceback.TracebackException.from_exception(caught, capture_locals=True)
        shown.append("".join(frame for frame in error.format() if "test_keyring.py" not in frame))
    text = "\n".join(shown)
    assert "_unlock" in text and "wrapping" in text  # the frames and their variables are there
    assert FIRST.printed()[5:20] not in text
    for material in materials:
        assert repr(material)[2:-1] not in text and material.hex() not in text
