"""Commands that change a place inside a value: save KEY#POINTER, patch, merge, increment, append."""

import json

import pytest

from stateview import StateManager
from stateview.dashboard.display.result_redaction import redacted_words, reveals_redacted


@pytest.fixture
def sv(store_url, run):
    def act(*words, code=0):
        found, out, err = run("-s", store_url, "-n", "ns", *words)
        assert found == code, err
        return (out or err).strip()

    return act


def test_each_changes_one_place(sv):
    sv("save", "job", '{"limits": {"tokens": 3}, "tags": []}', "--ttl", "1h")
    assert sv("save", "job#/limits/tokens", "5").endswith("revision 2")
    assert sv("increment", "job#/limits/tokens") == "6"
    assert sv("increment", "job#/tries", "--by", "2.5") == "2.5"
    assert sv("append", "job#/tags", "urgent", "--reason", "tagged") == "appended to job#/tags, which has 1 item"
    assert sv("append", "job#/tags", "5", "--string") == "appended to job#/tags, which has 2 items"
    assert sv("merge", "job", '{"tries": null, "limits": {"files": 1}}') == "merged into job"
    assert sv("patch", "job", '[{"op": "remove", "path": "/tags/1"}]', "--expected", "7") == "patched job"
    assert json.loads(sv("load", "job")) == {"limits": {"tokens": 6, "files": 1}, "tags": ["urgent"]}
    assert json.loads(sv("entry", "job", "--format", "json"))["ttl"] > 3000
    assert "tagged" in sv("log")
    assert (sv("increment", "count"), sv("increment", "count", "-3")) == ("1", "-2")
    assert sv("append", "notes", "started") == "appended to notes, which has 1 item"


def test_a_key_that_contains_the_sign_comes_first(sv):
    sv("save", "a#/b", "1")
    assert sv("load", "a#/b") == "1"
    sv("save", "a", '{"b": 0, "c": 0}')
    sv("save", "a#/b", "2")
    sv("save", "a#/c", "3")
    assert (sv("load", "a#/b"), json.loads(sv("load", "a"))) == ("2", {"b": 0, "c": 3})
    assert sv("increment", "a#/b") == "3"


def test_what_is_refused(sv):
    sv("save", "job", '{"n": "text"}')
    assert "is no number" in sv("increment", "job#/n", code=2)
    assert "is no array" in sv("append", "job#/n", "1", code=2)
    assert "nothing at '/x/y'" in sv("save", "job#/x/y", "1", code=1)
    assert "give a number" in sv("increment", "job#/n", "many", code=2)
    assert "no key 'none'" in sv("merge", "none", "{}", code=1)
    assert "an array of operations" in sv("patch", "job", "{}", code=2)
    assert "found another value" in sv("patch", "job", '[{"op": "test", "path": "/n", "value": 1}]', code=4)
    assert "expected" in sv("merge", "job", "{}", "--expected", "7", code=4)
    assert json.loads(sv("load", "job")) == {"n": "text"}


def test_in_a_transaction_of_the_shell(store_url, run, tmp_path):
    script = tmp_path / "acts"
    script.write_text(
        "save job '{\"n\": 1, \"l\": []}'\nbegin\nincrement 'job#/n'\nappend 'job#/l' x\nmerge job '{\"m\": 1}'\n"
        "save 'job#/m' 2\nincrement 'job#/n'\ncommit\n"
    )
    code, _, err = run("-s", store_url, "-n", "ns", "shell", "-f", str(script))
    assert code == 0, err
    with StateManager(store_url, "ns") as state:
        assert (state.load("job"), state.revision) == ({"n": 3, "l": ["x"], "m": 2}, 2)


@pytest.mark.parametrize(
    ("words", "is_masked"),
    [
        (["save", "api_token", "x"], True),
        (["save", "conf#/token", "x"], True),
        (["save", "token_store#/a", "x"], True),
        (["save", "conf#/name", "x"], False),
        (["append", "conf#/a/token", "x"], True),
        (["merge", "conf", '{"token": "x"}'], True),
        (["merge", "conf", '{"name": "x"}'], False),
        (["patch", "conf", '[{"op": "add", "path": "/token", "value": "x"}]'], True),
        (["patch", "conf", '[{"op": "add", "path": "/name", "value": "x"}]'], False),
    ],
)
def test_a_redacted_value_is_not_shown(words, is_masked):
    shown = redacted_words(words, ("*token*",))
    assert (shown != words, "x" in shown[-1]) == (is_masked, not is_masked)
    assert reveals_redacted({"key": words[1], "value": words[2]}, ("*token*",)) == is_masked


def test_a_place_in_the_form_of_another_command_is_told_in_the_right_form(sv, store_url):
    sv("save", "job", '{"limits": {"tokens": 3}, "tags": []}')
    sv("checkpoint", "cp")
    target = f"stateview -s {store_url} -n ns"
    said = sv("load", "job#/limits/tokens", code=1)
    assert said.endswith(f"Did you mean '{target} load job /limits/tokens'?")
    assert sv("load", "job#/tags", "--at", "cp", code=1).endswith(f"'{target} load job /tags --at cp'?")
    assert sv("blame", "job#/tags", code=1).endswith(f"Did you mean '{target} blame job /tags'?")
    assert f"'{target} load job /tags' prints this place" in sv("history", "job#/tags", code=1)
    assert "job#/tags" not in sv("load", "other#/tags", code=1).partition("Did you mean")[2]
    for words in (
        ["increment", "job", "/limits/tokens"], ["increment", "job", "/limits/tokens", "2"],
        ["save", "job", "/limits/tokens", "2"], ["plot", "job", "/limits/tokens"],
    ):  # fmt: skip
        assert sv(*words, code=2).endswith("Give a place in one word, with #: 'job#/limits/tokens'")
    assert sv("append", "job", "/tags", "x", code=2).endswith("'job#/tags'")
    assert "Usage: increment" in sv("increment", "--key", "job", "--by", "1", "/x", code=2)
    assert "Usage: namespaces" in sv("namespaces", "/x", "/y", code=2)
