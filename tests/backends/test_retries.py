"""Pauses between attempts: they grow up to a bound, differ, and end at the deadline."""

from __future__ import annotations

import time

import pytest

from stateview.backends.retries import Backoff


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, which take no time: only the clock goes on by them."""
    pauses: list[float] = []
    started = time.monotonic()
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr("time.monotonic", lambda: started + sum(pauses))
    return pauses


def test_pauses_grow_up_to_the_longest_and_are_random(pauses: list[float]) -> None:
    backoff = Backoff(100.0, first=0.01, longest=1.0)
    while backoff.wait():
        pass
    for number, pause in enumerate(pauses):
        longest = min(1.0, 0.01 * 2**number)
        assert longest / 2 <= pause <= longest
    assert len(set(pauses)) == len(pauses)


def test_no_pause_reaches_the_deadline(pauses: list[float]) -> None:
    backoff = Backoff(0.5, first=0.1, longest=0.1, growth=1.0)
    while backoff.wait():
        pass
    assert 0.35 < sum(pauses) < 0.5
    assert not backoff.wait()


def test_without_time_there_is_no_second_attempt(pauses: list[float]) -> None:
    assert not Backoff(0.0, first=0.001, longest=0.02).wait()
    assert pauses == []
