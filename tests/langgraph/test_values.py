"""Values of channels: JSON stays JSON, objects are readable, and LangGraph's serializer decides what they become."""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import json
import os
import pathlib
import pickle
import re
import uuid
from typing import Any

import pytest

from stateview import Damaged
from stateview.codec import decode, encode, is_exact


class Colour(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Trap:
    """What pickle would run, were it asked."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def through(value: Any, serde: Any = None) -> tuple[Any, Any]:
    """A value as it is stored, and as it comes back."""
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from stateview.langgraph.values import from_json, to_json

    serde = serde or JsonPlusSerializer()
    stored = to_json(value, serde)
    return stored, from_json(decode(encode(stored)), serde)


@pytest.mark.parametrize(
    "value", [None, 1, 2**70, "é", [1, {"a": [2.5, True]}], {}, {"@as": "value"}, {"a": {"class": "x"}}]
)
def test_what_json_holds_stays_json(value: Any) -> None:
    assert through(value) == (value, value)


OBJECTS = [
    (1, 2), {1: 2}, {(1, 2): 3}, {"@class": "os.system", "value": 1}, b"ab", bytearray(b"ab"), {"k": [b"ab"]},
    [float("inf")], {1}, frozenset([1]), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), datetime.date(2026, 1, 2),
    datetime.timedelta(1), uuid.UUID(int=5), decimal.Decimal("1.50"), Colour.RED, pathlib.PurePosixPath("/x"),
    re.compile("a+"), Point(1, {2}), Point(1, Colour.RED), collections.deque([1]), "a\ud800", [[], {}, ()],
]  # fmt: skip


@pytest.mark.parametrize("value", OBJECTS, ids=repr)
def test_an_object_comes_back_as_from_langgraphs_own_serializer(value: Any) -> None:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    serde = JsonPlusSerializer()
    try:
        expected = serde.loads_typed(serde.dumps_typed(value))
    except TypeError:
        with pytest.raises(TypeError):
            through(value)
        return
    stored, found = through(value)
    assert (repr(found), type(found)) == (repr(expected), type(expected))
    assert is_exact(stored)


def test_a_message_is_an_object_with_its_class_and_fields() -> None:
    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.types import Interrupt, Send

    call = {"name": "look", "args": {"at": 1}, "id": "c", "type": "tool_call"}
    value = [HumanMessage("hi", id="1"), AIMessage("yes", tool_calls=[call]), Send("n", {"m": HumanMessage("x")})]
    stored, found = through([*value, Interrupt("why")])
    assert found == [*value, Interrupt("why")]
    assert (stored[0]["@class"], stored[0]["content"]) == ("langchain_core.messages.human.HumanMessage", "hi")
    assert stored[1]["tool_calls"] == [call]
    assert stored[2]["value"][1]["m"]["content"] == "x"
    about = [HumanMessage("the annotation @class of Java", id="1"), {"text": "@class"}]
    stored_about, found_about = through(about)
    assert (found_about, stored_about[0]["content"]) == (about, "the annotation @class of Java")
    nested = [
        HumanMessage("x", additional_kwargs={"@class": "mine"}),
        HumanMessage("y", additional_kwargs={"a": {"@class": 1}}),
    ]
    assert through(nested)[1] == nested
    assert (stored[3]["@class"], stored[3]["value"]["value"]) == ("langgraph.types.Interrupt", "why")


def test_fields_of_a_message_with_their_default_values_are_left_out_and_come_back() -> None:
    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from stateview.langgraph.values import from_json, guess_json

    plain = {"@class": "langchain_core.messages.human.HumanMessage", "type": "human", "content": "hi"}
    assert through(HumanMessage("hi")) == (plain, HumanMessage("hi"))
    messages = [HumanMessage("hi"), AIMessage("", name="a", additional_kwargs={"n": 0}, response_metadata={"at": None})]
    for value in (messages, [messages[0], {"nested": messages}]):
        assert through(value)[1] == value
    assert decode(encode(guess_json(messages, JsonPlusSerializer()))) == through(messages)[0]
    whole = {"@class": plain["@class"], **messages[0].model_dump()}  # as earlier versions stored it
    assert from_json([whole], JsonPlusSerializer()) == [messages[0]]
    assert repr(from_json([plain], JsonPlusSerializer())) == repr([messages[0]])


def test_a_message_that_was_changed_in_place_is_stored_as_it_is_now() -> None:
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from stateview.langgraph.values import from_json, guess_json

    serde = JsonPlusSerializer()
    call = {"name": "look", "args": {"at": 1}, "id": "c", "type": "tool_call"}
    asked = AIMessage(
        [{"type": "text", "text": "é"}], tool_calls=[call], response_metadata={"n": 1}, id="2", mood="calm"
    )
    messages = [HumanMessage("hi", id="1"), asked, ToolMessage("seen", tool_call_id="c", artifact={"a": [1.5]})]

    def kept() -> Any:
        return decode(encode(guess_json(messages, serde)))

    for answer in (1, True, 1.0, [1], None):
        asked.response_metadata["n"] = answer
        shown = kept()
        assert repr(shown[1]["response_metadata"]) == repr({"n": answer})
        assert [{k: v for k, v in one.items() if k != "@class"} for one in shown] == [
            {"type": one.type, **one.model_dump(exclude_defaults=True)} for one in messages
        ]
        made = from_json(shown, serde)
        assert made == [type(one)(**one.model_dump()) for one in messages]
        assert made[1] is not from_json(shown, serde)[1]
    for answer in (1, True, 1.0):  # a field that an equal one replaces
        asked.response_metadata = {"n": answer}
        assert repr(kept()[1]["response_metadata"]) == repr({"n": answer})
    asked.content = "other"
    asked.additional_kwargs["colour"] = Colour.RED  # no JSON: then the serializer packs all of the list
    assert from_json(kept(), serde)[1].additional_kwargs == {"colour": Colour.RED}


def test_messages_that_a_run_keeps_are_not_encoded_again_and_not_kept_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    import marshal

    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from stateview.langgraph import values

    messages = [HumanMessage("hi" * 50, id=str(number)) for number in range(100)]
    messages += [AIMessage("yes", response_metadata={"n": 1}, id="last")]
    looks: list[Any] = []

    class Counting:
        @staticmethod
        def dumps(value: Any, version: int) -> bytes:
            looks.append(value)
            return marshal.dumps(value, version)

    monkeypatch.setattr(values, "marshal", Counting)
    first = encode(values.guess_json(messages, JsonPlusSerializer()))
    del looks[:]
    assert encode(values.guess_json(messages, JsonPlusSerializer())) == first
    assert len(looks) == 1  # the metadata
    monkeypatch.setattr(values, "_PARTS_BYTES", 5000)
    values.guess_json([message.model_copy() for message in messages], JsonPlusSerializer())
    assert len(values._parts._objects) < 100


def test_nothing_is_pickled_and_a_class_outside_of_the_allowlist_stays_data() -> None:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from stateview.langgraph.values import from_json

    with pytest.raises(TypeError):
        through(Trap())
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    for way, given in (("value", "exit 1"), ("arguments", ["exit 1"])):
        assert from_json({"@class": "os.system", "@as": way, "value": given}, strict) == given
    assert from_json({"@class": "os.system", "command": "exit 1"}, strict) == {"command": "exit 1"}
    data = base64.b64encode(pickle.dumps(1)).decode()
    with pytest.raises(NotImplementedError):
        from_json({"@class": "blob", "type": "pickle", "base64": data}, strict)


@pytest.mark.parametrize(
    "broken",
    [{"@class": "bytes"}, {"@class": "float", "value": []}, {"@class": "a.B", "@as": "none", "value": 1},
     {"@class": "blob"}, {"@class": "blob", "type": "msgpack", "base64": "?"}, {"@class": "dict", "items": [[1]]}],
)  # fmt: skip
def test_an_object_that_is_not_whole_is_named(broken: Any) -> None:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from stateview.langgraph.values import from_json

    with pytest.raises(Damaged, match=broken["@class"]):
        from_json([broken], JsonPlusSerializer())


def test_another_serializer_is_given_every_value() -> None:
    from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    class Reverse:
        def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
            return "reverse", plaintext[::-1]

        def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
            return ciphertext[::-1]

    serde = EncryptedSerializer(Reverse(), JsonPlusSerializer())
    stored, found = through({"secret": "word"}, serde)
    assert found == {"secret": "word"}
    assert stored["@class"] == "blob"
    assert "word" not in json.dumps(stored)
