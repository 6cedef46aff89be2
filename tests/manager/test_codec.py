"""The codec: what is saved comes back equal and of the same types, or is refused with its path."""

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pickle
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stateview import codec
from stateview.errors import Damaged, NotSerializable, StateException

text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers() | st.integers(-(10**80), 10**80) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
    max_leaves=25,
)


def strict(value):
    """A form in which 1, 1.0 and True differ, and 0.0 from -0.0."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    return type(value), repr(value) if isinstance(value, float) else value


def nested(depth, inner=None):
    value = [] if inner is None else [inner]
    for _ in range(depth - 1):
        value = [value]
    return value


@given(values)
def test_what_is_encoded_comes_back_equal_and_of_the_same_types(value):
    data = codec.encode(value)
    assert strict(codec.decode(data)) == strict(value)
    assert strict(codec.decode(data.decode())) == strict(value)
    assert strict(codec.parse_strict(data.decode())) == strict(value)
    assert strict(codec.decode(codec.pretty(data))) == strict(value)


@given(values, values)
def test_canonical_bytes_are_equal_exactly_for_the_same_json(one, other):
    assert (codec.canonical(one) == codec.canonical(other)) == (strict(one) == strict(other))


@given(st.dictionaries(text, values, max_size=6))
def test_canonical_bytes_do_not_know_the_order_of_keys(value):
    assert codec.canonical(dict(reversed(value.items()))) == codec.canonical(value)


@pytest.mark.parametrize(
    "value",
    [
        1,
        1.0,
        True,
        0,
        0.0,
        -0.0,
        False,
        None,
        "",
        [],
        {},
        [[]],
        {"": {"": ""}},
        1e16,
        1e22,
        5e-324,
        1.7976931348623157e308,
        0.1,
        -1.5e-7,
        2**53 + 1,
        2**63,
        2**64,
        -(2**64),
        10**70,
        -(10**70) + 1,
        "\u2028\u2029",
        "\0\x1f\x7f",
        "\ufeff",
        "🜚é\U0010ffff",
        "\\ud800",
        '"quoted" \\ and/or',
        "a\r\nb\tc",
        {"a.b": 1, "~/": 2, "$": 3},
        "x" * 100_000,
        list(range(10_000)),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_exact_values(value):
    assert strict(codec.decode(codec.encode(value))) == strict(value)


def test_integers_of_any_size():
    near = [10**digits + step for digits in (3913, 3999, 4000, 4299, 4300, 4301) for step in (-1, 0, 1)]
    for number in [*near, *(-number for number in near), 10**10_000 + 7, -(10**10_000) - 7, 3**60_000]:
        for value in (number, [number, 1.0, True], {"n": (number,), "m": -0.0}):
            expected = {**value, "n": [number]} if isinstance(value, dict) else value
            assert strict(codec.decode(codec.encode(value))) == strict(expected)


def test_numbers_that_python_calls_equal_have_different_bytes():
    ones = [1, 1.0, True]
    assert len({codec.encode(one) for one in ones}) == len({codec.canonical(one) for one in ones}) == 3
    assert codec.canonical(0.0) != codec.canonical(-0.0)
    assert codec.canonical([10**5000, 1]) != codec.canonical([10**5000, 1.0])
    assert codec.canonical([10**5000]) != codec.canonical([10**5000 + 1])


def test_tuples_come_back_as_lists_at_every_depth():
    point = collections.namedtuple("point", "x y")
    value = {"a": (1, (2, [3, (4.0,)])), "p": point(1, "é"), "empty": ()}
    expected = {"a": [1, [2, [3, [4.0]]]], "p": [1, "é"], "empty": []}
    assert strict(codec.decode(codec.encode(value))) == strict(expected)


def test_subclasses_come_back_as_what_json_has():
    class Text(str):
        __slots__ = ()

        def __str__(self):
            return "another text"

    class Colour(str, enum.Enum):  # noqa: UP042 - whose str() is not its value
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    ordered = collections.OrderedDict(b=1, a=2)
    value = [Text("t"), Colour.RED, Level.HIGH, ordered, collections.defaultdict(list, k=[1])]
    expected = ["t", "red", 3, {"b": 1, "a": 2}, {"k": [1]}]
    assert strict(codec.decode(codec.encode(value))) == strict(expected)
    assert strict(codec.decode(codec.encode((*value, {Colour.RED: Level.HIGH})))) == strict([*expected, {"red": 3}])


class Number:
    """As numpy's scalars are: an index, and no int."""

    def __index__(self):
        return 3

    __int__ = __index__


class Plain(enum.Enum):
    ONE = "one"


@dataclasses.dataclass
class Record:
    a: int = 1


REFUSED = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "bytes": b"ab",
    "bytearray": bytearray(b"ab"),
    "set": {1},
    "frozenset": frozenset("a"),
    "date": datetime.date(2026, 1, 2),
    "datetime": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "naive datetime": datetime.datetime(2026, 1, 2),
    "time": datetime.time(1),
    "timedelta": datetime.timedelta(1),
    "Decimal": decimal.Decimal("1.5"),
    "UUID": uuid.UUID(int=1),
    "Enum": Plain.ONE,
    "dataclass": Record(),
    "numpy-like int": Number(),
    "complex": 1j,
    "object": object(),
    "generator": (n for n in ()),
    "dict view": {}.keys(),
    "type": int,
    "surrogate": "\ud800",
    "surrogate in text": "a\udfffb",
    "range": range(3),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_equal_is_refused_with_its_path(name):
    bad = REFUSED[name]
    for value, path in [
        (bad, "$"),
        ({"tasks": [0, 1, 2, {"due": bad}]}, "$.tasks[3].due"),
        ([[], (1, bad)], "$[1][1]"),
        ({"": {"a b": bad}}, '$[""]["a b"]'),
        ({"x": 10**5000, "y": {'"': bad}}, '$.y["\\""]'),
    ]:
        with pytest.raises(NotSerializable) as caught:
            codec.encode(value)
        assert caught.value.path == path
        assert path in str(caught.value)
        assert isinstance(caught.value, TypeError)
        assert caught.value.hint
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (str(copy), copy.path) == (str(caught.value), path)


@pytest.mark.parametrize(
    "key", [1, None, True, 1.5, (1,), b"k", Plain.ONE, datetime.date(2026, 1, 2), uuid.UUID(int=1)]
)
def test_keys_that_are_no_strings_are_refused(key):
    with pytest.raises(NotSerializable, match="key") as caught:
        codec.encode({"a": [{"b": 1}, {"c": 1, key: 2}]})
    assert caught.value.path == "$.a[1]"
    with pytest.raises(NotSerializable):
        codec.encode({key: 1})


def test_a_lone_surrogate_in_a_key_is_refused():
    with pytest.raises(NotSerializable, match="surrogate") as caught:
        codec.encode({"a": {"\udc80": 1}})
    assert caught.value.path == "$.a"


def test_depth():
    for fits in (nested(200), nested(199, 1), {"k": nested(199)}, {"k": nested(198, "x")}):
        assert codec.decode(codec.encode(fits)) == fits
    for deep in (nested(201), nested(201, 1), [{"k": nested(199)}], nested(1000), nested(100_000)):
        with pytest.raises(NotSerializable, match="200 levels"):
            codec.encode(deep)


def test_depth_counts_tuples_and_objects_alike():
    value = ()
    for position in range(199):
        value = {"k": value} if position % 2 else (value,)
    assert codec.decode(codec.encode(value)) is not None
    for more in ([value], (value,), {"k": value}):
        with pytest.raises(NotSerializable, match="200 levels"):
            codec.encode(more)
        with pytest.raises(NotSerializable, match="200 levels"):
            codec.encode([more])


def test_a_value_that_holds_itself_is_refused():
    loop = [1]
    loop.append(loop)
    ring = {"a": {}}
    ring["a"]["b"] = ring
    for value in (loop, ring, {"x": (loop,)}):
        with pytest.raises(NotSerializable, match="holds itself"):
            codec.encode(value)


def test_the_limit_on_size():
    fits = "x" * (codec.MAX_BYTES - 2)
    assert codec.decode(codec.encode(fits)) == fits
    with pytest.raises(NotSerializable, match="67,108,865 bytes"):
        codec.encode(fits + "x")
    with pytest.raises(Damaged, match="over the limit"):
        codec.decode(b'"' + fits.encode() + b'x"')


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b'{"a":',
        b'{"a":1',
        b'"abc',
        b"tru",
        b"[1,",
        b"[1,]",
        b"{,}",
        b"1 2",
        b"'a'",
        b"nul",
        b"+1",
        b"01",
        b"-",
        b".5",
        b"NaN",
        b"[NaN]",
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b"-1e400",
        b'{"a":[1e400]}',
        b"\xff",
        b'"\xff"',
        b'"\xc3"',
        b'"\xed\xa0\x80"',
        b'{"\xff":1}',
        b'"\\ud800"',
        b'"\\udc00x"',
        b'{"\\ud800":1}',
        b'"\\x"',
        b'"\t"',
        b'"\0"',
        b"\0",
        b"[" + b"1" * 5000 + b",NaN]",
        b"[" + b"1" * 5000 + b",1e400]",
        b"[" + b"1" * 5000 + b',"\\ud800"]',
        b"[" + b"1" * 5000 + b',{"\\ud800":1}]',
        b"[" + b"1" * 5000 + b',{"a":1,"a":2}]',
        b"1" * 5000 + b"x",
        b"[" + b"1" * 5000 + b',"\xff"]',
        b"[" + b"1" * 5000 + b"," + b"[" * 201 + b"]" * 201 + b"]",
        b"[" + b"1" * 5000 + b"," + b"[" * 100_000 + b"]" * 100_000 + b"]",
        b"[" * 201 + b"]" * 201,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a":' * 201 + b"1" + b"}" * 201,
        "\ufeff1".encode(),
        '"a"'.encode("utf-16"),
        b"\x80\x04N.",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_hostile_bytes_are_damage_and_no_crash(data):
    with pytest.raises(Damaged) as caught:
        codec.decode(data, "the value of 'k'")
    assert "the value of 'k'" in str(caught.value)
    assert isinstance(caught.value, ValueError)


@given(st.binary(max_size=40) | values.map(codec.encode), st.data())
def test_any_bytes_are_decoded_or_damage(data, draw):
    if data:
        place = draw.draw(st.integers(0, len(data) - 1))
        data = draw.draw(st.sampled_from([data[:place], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]]))
    try:
        value = codec.decode(data)
    except Damaged:
        return
    assert strict(codec.decode(codec.encode(value))) == strict(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ('[{"b": {"c": 1, "d": 2, "c": 1}}]', "'c' occurs twice"),
        ("[NaN]", "NaN is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ("1e999", "too large"),
        ("-1e999", "too large"),
    ],
)
def test_strict_parsing_refuses(text, said):
    with pytest.raises(ValueError, match=said):
        codec.parse_strict(text)


def test_strict_parsing_says_line_and_column():
    with pytest.raises(json.JSONDecodeError) as caught:
        codec.parse_strict('{\n  "a": 1,\n  "b": oops\n}')
    assert (caught.value.lineno, caught.value.colno) == (3, 8)


def test_refusals_are_of_the_one_tree():
    assert issubclass(NotSerializable, StateException)
    assert issubclass(Damaged, StateException)


class Letter(enum.StrEnum):
    A = "a"


@pytest.mark.parametrize(
    ("value", "exact"),
    [(None, True), ([1, 2.5, True, "é", {"a": [10**80]}], True), ((1,), False), ([1, ()], False), ({1: 2}, False),
     (Letter.A, False), ({Letter.A: 1}, False), (collections.OrderedDict(a=1), False), (b"a", False), ({1}, False),
     (float("nan"), False), ("\ud800", False), (nested(201), False), (nested(200), True), (object(), False)],
)  # fmt: skip
def test_it_says_what_comes_back_equal_and_of_the_same_types(value, exact):
    assert codec.is_exact(value) is exact


@given(values)
def test_every_value_of_json_is_exact(value):
    assert codec.is_exact(value)


@given(st.lists(values, min_size=1))
def test_parts_that_were_encoded_make_the_list_of_their_values(members):
    parts = [codec.encoded(member) for member in members]
    assert codec.encode(parts) == codec.encode(members)


def test_parts_stay_within_the_limits(monkeypatch):
    assert codec.decode(codec.encode([codec.encoded(nested(199))])) == [nested(199)]
    with pytest.raises(NotSerializable, match="200 levels"):
        codec.encoded(nested(200))
    with pytest.raises(NotSerializable, match=r"\$\[1\]"):
        codec.encode([codec.encoded(1), 2])
    with pytest.raises(NotSerializable):
        codec.encode({"a": codec.encoded(1)})
    monkeypatch.setattr(codec, "MAX_BYTES", 9)
    with pytest.raises(NotSerializable, match="over the limit"):
        codec.encode([codec.encoded("abcd"), codec.encoded("abcd")])
