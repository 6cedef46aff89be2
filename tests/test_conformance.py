"""The rules of the formats, as data made for these tests: RFC 8259 (JSON), RFC 6902 (patches) and RFC 9535 (JSONPath).

The examples of RFC 6901 (pointers) are in `states/test_pointers.py`. In `json_texts.json` a character is a byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonpatch
import pytest

from stateview import StateException, codec
from stateview.cli.commands.search import find
from stateview.cli.context import Context
from stateview.cli.exit_codes import UsageError
from stateview.cli.json_queries import compile_query
from stateview.manager import StateManager
from stateview.states.changes import Change
from stateview.states.values.json_diff import compare, json_patch
from stateview.states.values.pointers import escape_token, resolve_pointer
from stateview.states.values.value_text import parse_value
from stateview.transfer.formats import json_documents

DATA = Path(__file__).parent / "data"
DEEP = [f"{left * 200}1{right * 200}" for left, right in (("[", "]"), ('{"a":', "}"))]
TOO_DEEP = [*(f"[{text}]" for text in DEEP), "[" * 100_000]
TEXTS = json.loads((DATA / "json_texts.json").read_bytes())
PAIRS = json.loads((DATA / "json_patch_pairs.json").read_bytes())
JSONPATH = json.loads((DATA / "jsonpath.json").read_bytes())


def typed(data: bytes) -> bytes:
    return codec.encode(parse_value(codec.decode_text(data), must=True))


def stored(data: bytes) -> bytes:
    return codec.encode(codec.decode(data))


def imported(data: bytes) -> bytes:
    document = json_documents.parse(b'{"k":' + data + b"}", "file")
    return codec.encode(document["k"])


READERS: list[Callable[[bytes], bytes]] = [typed, stored, codec.normal, imported]


@pytest.mark.parametrize("read", READERS)
def test_json_that_is_accepted(read: Callable[[bytes], bytes]) -> None:
    for text in [*TEXTS["accepted"], *DEEP]:
        data = text.encode("latin-1")
        judge = json.loads(data)
        assert json.dumps(json.loads(read(data))) == json.dumps(judge), text[:80]


@pytest.mark.parametrize("read", READERS)
def test_json_that_is_refused(read: Callable[[bytes], bytes]) -> None:
    for text in [*TEXTS["refused"], *TOO_DEEP]:
        with pytest.raises((StateException, UnicodeDecodeError)):
            read(text.encode("latin-1"))
            pytest.fail(repr(text[:80]))


@pytest.mark.parametrize("read", READERS)
def test_json_that_is_written_in_another_way(read: Callable[[bytes], bytes]) -> None:
    for text, written in TEXTS["recorded"]:
        assert read(text.encode("latin-1")) == written.encode("latin-1"), text


def test_a_key_that_occurs_twice_is_refused_from_a_person() -> None:
    for text in (b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b'[{"b":{"a":1,"x":0,"a":2}}]'):
        for read in (typed, codec.normal, imported):
            with pytest.raises(StateException, match="twice"):
                read(text)


def test_patches_turn_one_value_into_the_other() -> None:
    for one, other in [pair for left, right in PAIRS for pair in ((left, right), (right, left), (left, left))]:
        patch = json_patch(one, other)
        assert codec.canonical(jsonpatch.apply_patch(one, patch)) == codec.canonical(other), (one, other)
        assert bool(patch) == (codec.canonical(one) != codec.canonical(other))
        assert all(
            sorted(step) == (["op", "path", "value"] if step["op"] != "remove" else ["op", "path"]) for step in patch
        )
        nested = Change("a/~b", "changed", one, other).as_json_patch()
        state = jsonpatch.apply_patch({"a/~b": one}, nested)
        assert codec.canonical(state) == codec.canonical({"a/~b": other})
        for path, kind, before, after in compare(one, other):
            side, part = (one, before) if kind == "removed" else (other, after)
            assert codec.canonical(resolve_pointer(side, path)) == codec.canonical(part)


def test_what_a_jsonpath_selects_and_each_pointer_resolves() -> None:
    for name, query, pointers in JSONPATH["selected"]:
        document = JSONPATH["documents"][name]
        found = [
            ("".join(f"/{escape_token(step)}" for step in steps), part)
            for steps, part in compile_query(query)(document)
        ]
        assert [pointer for pointer, _ in found] == pointers, (name, query)
        for pointer, part in found:
            assert resolve_pointer(document, pointer) is part


@pytest.mark.parametrize("query", JSONPATH["refused"])
def test_what_is_no_jsonpath_is_one_line(query: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_query(query)
    assert "is not a JSONPath" in caught.value.message and "\n" not in caught.value.message.replace(repr(query), "")


def test_find_prints_what_a_jsonpath_selects(folder: Path) -> None:
    with StateManager("json", "default") as state:
        state.save("shop", JSONPATH["documents"]["shop"])
        context = Context({"store": state.backend.url, "namespace": "default"})
        for name, query, pointers in JSONPATH["selected"]:
            if name == "shop":
                assert [path for _, path, _ in find(context, {"jsonpath": query}).rows] == pointers
        context.close()
