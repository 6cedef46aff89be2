"""The contract once more with every superseded value as a delta, also those that are too small for that."""

from __future__ import annotations

import pytest
import test_contract

from stateview.backends import deltas
from stateview.backends.jsonfile import history as json_history
from stateview.backends.jsonfile import writer as json_writer
from stateview.backends.sqlite import packed as sqlite_packed
from stateview.backends.sqlite import packing as sqlite_packing
from stateview.backends.sqlite import transfer as sqlite_transfer
from stateview.backends.sqlite import writer as sqlite_writer

pytestmark = pytest.mark.stress


def make_delta(value: bytes, base: int, base_value: bytes | None, place: int) -> deltas.Delta:
    """Pack a value, also where it gains nothing."""
    return deltas.rebase(value, base, base_value, place)


@pytest.fixture(autouse=True)
def any_value_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sqlite_packed, sqlite_packing, json_history):
        monkeypatch.setattr(module, "make_delta", make_delta)
    for module in (sqlite_packed, sqlite_packing, json_history, sqlite_transfer):
        monkeypatch.setattr(module, "MIN_BYTES", 1)
    small, large, last = (
        (sqlite_writer, "_SUPERSEDE_SMALL"),
        (sqlite_writer, "_LARGE_ENTRY"),
        (sqlite_transfer, "_LAST"),
    )
    for module, query in (small, large, last):
        text = getattr(module, query)
        assert "512" in text
        monkeypatch.setattr(module, query, text.replace("512", "1"))
    monkeypatch.setattr(deltas, "MIN_BYTES", 8)  # Zstandard takes no shorter base
    monkeypatch.setattr(json_writer, "_PACKED_BYTES", 1)


class TestJSON(test_contract.TestJSON):
    pass


class TestSQLite(test_contract.TestSQLite):
    pass
