"""Read many namespaces at once: one round trip a page, for all nodes, where a handshake with each takes four."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import NoScriptError

from ..protocol import NamespaceNumbers
from .connections.client import encode_bulk, pool_of, sent
from .connections.server import script_hash
from .scripts.common import NAMES
from .scripts.read import NUMBERS

if TYPE_CHECKING:
    from .reader import Reader

NAMESPACES_PER_PAGE = 1000


def numbers(backend: Reader, names: Sequence[str]) -> Iterator[NamespaceNumbers | None]:
    """Yield the numbers of namespaces of a backend's server, see `CountsNamespaces`. A round trip a page."""
    backend._handshake()
    left = iter(names)
    while page := list(islice(left, NAMESPACES_PER_PAGE)):
        for name, reply in zip(page, read_many(backend, page, NUMBERS), strict=True):
            if isinstance(reply, list):
                revision, keys, checkpoints = map(int, reply)
                yield NamespaceNumbers(name, keys, revision, checkpoints)
            else:
                yield None


def read_many(backend: Reader, names: Sequence[str], script: str, *arguments: int) -> list[Any]:
    """Run a script for each name, and return the replies, errors among them. One round trip, for all nodes at once."""
    suffix = b"_RO" if backend._reads_only(script) else b""
    start, whole = [b"EVALSHA" + suffix, script_hash(script).encode()], [b"EVAL" + suffix, script.encode()]
    end = [b"%d" % argument for argument in arguments]

    def command(name: str, start: list[bytes] = start) -> bytes:
        words = [*start, b"%d" % len(NAMES), *(key.encode() for key in _keys(name)), *end]
        return b"*%d\r\n%b" % (len(words), encode_bulk(words))

    def act(client: Any) -> list[Any]:
        groups: dict[Any, list[str]] = {}
        for name in names:
            node = None if isinstance(client, redis.Redis) else client.get_node_from_key(_keys(name)[0])
            groups.setdefault(node, []).append(name)
        pools = [pool_of(client, _keys(group[0])[0]) for group in groups.values()]
        begin = start
        while True:
            replies: dict[str, Any] = {}
            with ExitStack() as stack:
                reads = [
                    stack.enter_context(sent(pool, [command(group[0], begin), *map(command, group[1:])]))
                    for pool, group in zip(pools, groups.values(), strict=True)
                ]
                for group, read in zip(groups.values(), reads, strict=True):
                    replies.update(zip(group, read(), strict=True))
            if not any(isinstance(reply, NoScriptError) for reply in replies.values()):
                return [replies[name] for name in names]
            begin = whole  # the first command for each server brings the script

    return backend._with_retry(act)


def _keys(name: str) -> list[str]:
    return [f"stateview:{{{name}}}:{part}" for part in NAMES]
