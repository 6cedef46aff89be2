"""Find the revisions whose states have given entries."""

from __future__ import annotations

from itertools import accumulate, pairwise

from .protocol import Version


def matching_revisions(
    versions: dict[str, list[Version]], entries: dict[str, Version], time: int, last: int
) -> list[int]:
    """Return the revisions up to `last` whose states show exactly these entries, where expiry is judged by `time`.

    `versions` are those of each key, ascending. O(versions + revisions).
    """
    low = max((version.revision for version in entries.values()), default=0)
    if low > last or entries.keys() - versions.keys():
        return []
    steps = [0] * (last - low + 2)  # by how many keys more, or fewer, each state differs than the one before
    for key, history in versions.items():
        for version, following in pairwise([Version(key, None, 0, 0), *history, None]):
            assert version is not None
            start = max(version.revision, low)
            end = min(following.revision, last + 1) if following is not None else last + 1
            if start < end and entries.get(key) != (version if version.visible(time) else None):
                steps[start - low] += 1
                steps[end - low] -= 1
    return [low + place for place, differing in enumerate(accumulate(steps[:-1])) if not differing]
