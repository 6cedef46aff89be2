"""Read many namespaces at once: one pipeline a node and page, where a handshake with each takes four round trips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import NoScriptError

from ..protocol import NamespaceNumbers
from .connections.server import script_hash
from .scripts.common import NAMES
from .scripts.read import NUMBERS

if TYPE_CHECKING:
    from .reader import Reader

NAMESPACES_PER_PAGE = 1000


def numbers(backend: Reader, names: Sequence[str]) -> Iterator[NamespaceNumbers | None]:
    """Yield the numbers of namespaces of a backend's server, see `CountsNamespaces`. A round trip a node and page."""
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
    """Run a script for each name, and return the replies, errors among them. One round trip a node."""

    def act(client: Any) -> list[Any]:
        groups: dict[Any, list[str]] = {}
        for name in names:
            node = None if isinstance(client, redis.Redis) else client.get_node_from_key(_keys(name)[0])
            groups.setdefault(node, []).append(name)
        replies: dict[str, Any] = {}
        for node, group in groups.items():
            server = client if node is None else client.get_redis_connection(node)
            replies.update(zip(group, _pipeline(server, group, script, arguments), strict=True))
        return [replies[name] for name in names]

    return backend._with_retry(act)


def _pipeline(server: redis.Redis, names: Sequence[str], script: str, arguments: Sequence[int]) -> list[Any]:
    while True:
        pipe = server.pipeline(transaction=False)
        for name in names:
            keys = _keys(name)
            pipe.evalsha(script_hash(script), len(keys), *keys, *arguments)
        replies = pipe.execute(raise_on_error=False)
        if not any(isinstance(reply, NoScriptError) for reply in replies):
            return replies
        server.script_load(script)


def _keys(name: str) -> list[str]:
    return [f"stateview:{{{name}}}:{part}" for part in NAMES]
