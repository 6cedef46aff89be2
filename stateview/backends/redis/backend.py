"""Redis: the keys of a namespace share the hash tag `{NS}`, so they lie in one slot. One script makes a commit.

Scripts use core commands only, no modules. Repeated loads come from memory for as long as a second connection is quiet
and alive. On it the server announces every commit: CLIENT TRACKING, broadcast, on the head key.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from ... import codec
from ...errors import NOTHING_CHANGED, Damaged, ReadOnly
from ...model import Finding, check_checkpoint, check_key
from ..protocol import CheckpointWrite, CommitRequest, ProgressText, RecoverySession, StagedImport, Write
from ..stored_values import PLAIN, StoredValues
from . import scripts
from .client import escape_match
from .server import REGISTRY
from .writer import Writer

ADOPT_SECONDS = 2.0  # how long to look for data of the older layout before a new namespace is made


class RedisBackend(Writer):
    """State of one namespace on a Redis server (6.2 or later, or Valkey).

    Args:
        url: `redis://`, `rediss://`, `unix://`, `redis+cluster://` or `redis+sentinel://HOST:PORT,…/SERVICE/DB`, with
            user, password, database, and any option of redis-py (`socket_timeout`, `ssl_ca_certs`, …).
        shown: the URL without its password, for messages.
        namespace: a checked name.
        read_only: never write.
        history: keep superseded versions for at least this many revisions.
        timeout: seconds to retry through transient errors.
        values: the form in which values are stored.

    """

    kind = "redis"
    rewrites_state = False
    editable_by_hand = False
    ranks_keys = True

    def __init__(
        self, url: str, shown: str, namespace: str, *, read_only: bool = False, history: int = 10_000,
        timeout: float = 10.0, values: StoredValues = PLAIN,
    ) -> None:  # fmt: skip
        super().__init__(url, shown, namespace, read_only, history, timeout, values)

    def _sibling(self, name: str) -> RedisBackend:
        """Return a backend for the keys under a longer prefix of this namespace."""
        backend = RedisBackend(
            self._address, self.url, self.namespace, history=self.keep, timeout=self.timeout, values=self.values
        )
        backend._set_prefix(self._prefix + name)
        return backend

    def open_staging(self) -> StagedImport:
        from .staged_import import RedisStagedImport

        self._check_writable()
        return RedisStagedImport(self)

    @contextmanager
    def open_recovery(self) -> Iterator[RecoverySession]:
        """Lock nothing: others may write meanwhile."""
        from .recovery import RedisRecovery

        self._check_writable()
        yield RedisRecovery(self)

    def diagnose(self, progress: ProgressText) -> Iterator[Finding]:
        from .doctor import diagnose

        return diagnose(self, progress)

    # --- data of an older layout -------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Take in the older layout: strings `state:NS:KEY` and `checkpoint:NS:NAME`, which stay where they are."""
        live = self._older(f"state:{self.namespace}:")
        states = self._older(f"checkpoint:{self.namespace}:")
        if not live and not states:
            return
        if self.read_only:
            raise ReadOnly(f"{self.url}: {self.namespace!r} is of an older layout", "Open it once for writing")
        batches: list[CommitRequest] = []
        before: dict[str, bytes] = {}
        previous = ""
        parsed = {check_checkpoint(name): self._parse(text, f"checkpoint {name}") for name, text in states.items()}
        present = {check_key(key): self._parse(text, f"entry {key}") for key, text in live.items()}
        for label, content in [*sorted(parsed.items()), ("", present)]:
            data = {check_key(key): codec.encode(value) for key, value in content.items()}
            writes = {key: Write(None) for key in before.keys() - data.keys()}
            writes |= {key: Write(value) for key, value in data.items() if before.get(key) != value}
            marks = (CheckpointWrite(previous, "adopted"),) if previous else ()
            reason = f"adopted checkpoint {label}" if label else "adopted from an older layout"
            base = sum(1 for batch in batches if batch.writes)
            batches.append(CommitRequest(writes, base=base, reason=reason, marks=marks, token=secrets.token_hex(8)))
            previous, before = label, data
        self._registry(lambda client: client.sadd(REGISTRY, self.namespace))

        def act(client: Any) -> Any:
            if not isinstance(client, redis.Redis):  # a cluster: its own pipelines take no scripts
                client = client.get_redis_connection(client.get_node_from_key(self._keys[0]))
            pipe = client.pipeline(transaction=True)
            for batch in batches:
                pipe.eval(scripts.COMMIT, len(self._keys), *self._keys, *self._commit_args(batch, (b"", b""), new=True))
            return pipe.execute()

        self._with_retry(act, commit=True)

    def _older(self, prefix: str) -> dict[str, bytes]:
        """Return the strings under a prefix, as far as a short look finds them."""
        pattern = escape_match(prefix) + "*"

        def act(client: Any) -> dict[str, bytes]:
            deadline = time.monotonic() + ADOPT_SECONDS
            found = {}
            for name in client.scan_iter(match=pattern, count=5000, _type="string"):
                value = client.get(name)
                if value is not None:
                    found[name[len(prefix) :].decode()] = value
                if time.monotonic() > deadline:
                    break
            return found

        return self._with_retry(act)

    def _parse(self, text: bytes, what: str) -> Any:
        try:
            return codec.parse_strict(text.decode())
        except (ValueError, RecursionError) as error:
            said = f"{self.url}: the older {what[:80]} is not valid JSON: {error}"
            raise Damaged(said, NOTHING_CHANGED) from error
