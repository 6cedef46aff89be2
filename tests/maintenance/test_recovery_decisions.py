"""What `recover` decides about a namespace of which some versions are missing, for every backend alike."""

from __future__ import annotations

from typing import Any

from stateview.backends.protocol import CheckpointRecord, Head, Salvage, StoredVersion
from stateview.maintenance.lost_versions import MAX_NAMED_KEYS, LostVersions
from stateview.model import Commit, to_datetime


def version(key: str, revision: int, until: int = 0, value: bytes | None = b"1") -> StoredVersion:
    return StoredVersion(key, value, revision, revision, 0, until)


def decide(*versions: StoredVersion, last: int = 9, marks: tuple[int, ...] = (), **facts: Any) -> LostVersions:
    commits = [Commit(revision, to_datetime(revision)) for revision in range(1, last + 1)]
    checkpoints = [CheckpointRecord(f"c{revision}", revision, revision) for revision in marks]
    head = Head(last, last, facts.pop("count", -1), 0, "lineage")
    salvage = Salvage(subject="file", damage="bad", head=head, commits=commits, marks=checkpoints, **facts)
    salvage.versions = list(versions)
    return LostVersions(salvage)


def chain(decision: LostVersions, key: str) -> list[tuple[int, int, bool]]:
    """Revision, end, and whether it is a delete."""
    found = [one for one in decision.restored().versions if one.key == key]
    return [(one.revision, one.until, one.value is None) for one in found]


def lost(decision: LostVersions) -> list[str]:
    return [problem.subject for problem in decision.problems if not problem.mended]


def test_nothing_lost_keeps_the_floor() -> None:
    decision = decide(version("a", 3, 7), version("a", 7), written={("a", 3), ("a", 7)}, marks=(4,))
    assert decision.is_whole()
    assert (decision.restored().head.revision, decision.restored().head.floor) == (10, 0)
    assert chain(decision, "a") == [(3, 7, False), (7, 0, False)]


def test_a_lost_version_is_absent_in_the_checkpoint_that_showed_it() -> None:
    decision = decide(version("a", 2, 5), version("a", 8), written={("a", 5)}, marks=(3, 6))
    assert lost(decision) == ["the value of key 'a' of revision 5", "in checkpoint 'c6' the value of 'a'"]
    assert decision.restored().head.floor == 10
    assert chain(decision, "a") == [(2, 5, False), (5, 8, True), (8, 0, False)]


def test_a_lost_version_that_no_checkpoint_showed_leaves_no_delete() -> None:
    decision = decide(version("a", 2, 5), version("a", 8), written={("a", 5)}, marks=(3,))
    assert lost(decision) == ["the value of key 'a' of revision 5"]
    assert chain(decision, "a") == [(2, 5, False), (8, 0, False)]


def test_a_lost_live_value_is_deleted_by_the_commit_of_the_recovery() -> None:
    decision = decide(version("a", 2, 9), written={("a", 9)})
    restored = decision.restored()
    assert restored.missing == ["a"]
    assert restored.commits[-1].reason == "recovered"
    assert restored.commits[-1].keys == 1
    assert chain(decision, "a") == [(2, 9, False), (10, 0, True)]


def test_an_older_entry_is_not_taken_for_the_newest() -> None:
    decision = decide(version("a", 2), written={("a", 6)})
    assert lost(decision) == ["the value of key 'a'"]
    assert chain(decision, "a") == [(2, 6, False), (10, 0, True)]


def test_a_past_version_without_a_later_one_was_a_delete() -> None:
    decision = decide(version("a", 2, 7), written={("a", 7)}, past={("a", 7)}, in_place=True)
    assert decision.is_whole()
    assert [problem.subject for problem in decision.problems] == ["the delete of key 'a' of revision 7"]
    assert chain(decision, "a") == [(2, 7, False), (7, 0, True)]
    assert decision.restored().missing == []


def test_a_live_value_of_unknown_revision_is_missed_by_every_later_checkpoint() -> None:
    decision = decide(version("a", 2, 4), version("a", 4, 6, None), listed={"a"}, marks=(3, 5, 6, 8), in_place=True)
    assert lost(decision) == [
        "the value of key 'a'", "in checkpoint 'c6' the value of 'a'", "in checkpoint 'c8' the value of 'a'",
    ]  # fmt: skip


def test_entries_that_only_the_count_knows_are_reported() -> None:
    decision = decide(version("a", 9), count=3)
    assert lost(decision) == ["2 entries whose keys are not known"]


def test_of_many_lost_keys_the_report_names_some() -> None:
    written = {(f"k{number:05}", 9) for number in range(MAX_NAMED_KEYS + 1)}
    (subject,) = lost(decide(written=written))
    assert subject.startswith("the values of 2,001 keys: 'k00000', 'k00001'")
    assert subject.endswith("and 1,991 more")
