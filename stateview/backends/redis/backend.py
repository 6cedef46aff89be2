"""Redis: the keys of a namespace share the hash tag `{NS}`, so they lie in one slot. One script makes a commit.

Scripts use core commands only, no modules. Repeated loads come from memory for as long as a second connection is quiet
and alive, see `read_cache`. On it the server announces every commit: CLIENT TRACKING, broadcast, on the head key.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from ...errors import Conflict, ReadOnly
from ...model import Finding
from ..error_places import marks_errors
from ..protocol import Backend, CommitRequest, ProgressCount, ProgressText, RecoverySession, StagedImport
from ..stored_values import PLAIN, StoredValues
from . import turns
from .connections.contact import REGISTRY
from .scripts.commit import COMMIT, PUT_KEYRING, UPGRADE
from .server_checks import refuse_eviction
from .writer import Writer


@marks_errors
class RedisBackend(Writer):
    """State of one namespace on a Redis server (6.2 or later, or Valkey).

    Args:
        url: `redis://`, `rediss://`, `unix://`, `redis+cluster://` or `redis+sentinel://HOST:PORT,…/SERVICE/DB`, with
            user, password, database, and any option of redis-py (`socket_timeout`, `ssl_ca_certs`, …).
        shown: the URL without its password, for messages.
        namespace: a checked name.
        read_only: never write.
        history: keep superseded versions for at least this many revisions.
        timeout: seconds to retry through transient errors. None: 10, and 1 for the first contact with a single server.
        values: the form in which values are stored.
        wait_replicas: how many replicas confirm each commit; None for what the URL says, as for the options below.
        wait_timeout: seconds that a commit waits for them.
        consistency: `"cached"` or `"strict"`, see `get`.
        max_stale: seconds that a load from memory may be old.
        quiet: print no note.

    """

    kind = "redis"
    rewrites_state = False
    ranks_keys = True

    def __init__(
        self, url: str, shown: str, namespace: str, *, read_only: bool = False, history: int = 10_000,
        timeout: float | None = None, values: StoredValues = PLAIN, wait_replicas: int | None = None,
        wait_timeout: float | None = None, consistency: str | None = None, max_stale: float | None = None,
        quiet: bool = False,
    ) -> None:  # fmt: skip
        options = {
            "wait_replicas": wait_replicas, "wait_timeout": wait_timeout, "consistency": consistency,
            "max_stale": max_stale,
        }  # fmt: skip
        chosen = {name: value for name, value in options.items() if value is not None}
        super().__init__(url, shown, namespace, read_only, history, timeout, values, chosen)
        self._quiet = quiet
        self._is_import = False  # whether an import makes the namespace, which takes all older data
        self._left_half = False  # whether older data was found that was not taken in

    def _sibling(self, name: str) -> RedisBackend:
        """Return a backend for the keys under a longer prefix of this namespace."""
        backend = RedisBackend(
            self._address, self.url, self.namespace, history=self.keep, timeout=self.timeout, values=self._given,
            **self._chosen,
        )  # fmt: skip
        backend._set_prefix(self._prefix + name)
        return backend

    def copies(self, names: Sequence[str]) -> Iterator[Backend | None]:
        from .snapshot import take_many

        return take_many(self, names)

    def wait_turn(self, key: str, waiter: str, ticket: int, hold: float) -> tuple[bool, int]:
        """Make two round trips."""
        return turns.wait(self, key, waiter, ticket, hold)

    def is_turn_wanted(self, key: str) -> bool:
        """Make one round trip."""
        return turns.is_wanted(self, key)

    def end_turn(self, key: str, waiter: str) -> int:
        """Make one round trip."""
        return turns.end(self, key, waiter)

    def keyring(self) -> bytes | None:
        """Make one round trip."""
        self._learn_keyring()
        return self._keyring

    def put_keyring(self, document: bytes | None, former: bytes | None) -> None:
        """Make one round trip. The namespace exists: the first commit of a new one brings its keyring."""
        self._check_writable()
        self._eval(UPGRADE)
        if not self._eval(PUT_KEYRING, document or b"", former or b""):
            raise Conflict("the keyring of the namespace was changed meanwhile", "Try again")
        self._learn_keyring()
        self._forget_reads()

    def reseal(self, progress: ProgressCount) -> int:
        from .resealing import reseal

        self._check_writable()
        return reseal(self, progress)

    def open_staging(self) -> StagedImport:
        from .staged_import import RedisStagedImport

        self._check_writable()
        return RedisStagedImport(self)

    @contextmanager
    def open_recovery(self) -> Iterator[RecoverySession]:
        """Lock nothing: others may write meanwhile."""
        from .recovery import RedisRecovery

        self._check_writable()
        try:
            yield RedisRecovery(self.examined())
        finally:
            self._begin_anew()

    def diagnose(self, progress: ProgressText) -> Iterator[Finding]:
        from .doctor import diagnose

        return diagnose(self, progress)

    # --- data of an older layout -------------------------------------------------------------------------------

    def expect_import(self) -> None:
        """Let an import make the namespace although there may be older data that no look has taken in."""
        self._is_import = True

    def _start_namespace(self) -> None:
        if self._left_half:  # the import failed
            from .older_strings import half_error

            raise half_error(self)
        super()._start_namespace()

    def _adopt(self) -> None:
        """Take in the older layout: strings `state:NS:KEY` and `checkpoint:NS:NAME`, which stay where they are.

        Raises:
            BackendError: there is more of it than was found in time. Nothing was taken in.

        """
        from msgspec.structs import replace

        from ..legacy.adoption import adoption_requests
        from ..legacy.redis_strings import read_strings
        from .older_strings import half_error, look, say_unseen

        older = look(self)
        if not older.are_all:
            self._left_half = older.exist
            if not self._is_import and older.exist:
                raise half_error(self)
            if not (self._is_import or self._quiet):
                say_unseen(self)
            return
        requests = adoption_requests(read_strings(older.pages, self.namespace, self.url))
        if not requests:
            return
        if self.read_only:
            raise ReadOnly(f"{self.url}: {self.namespace!r} is of an older layout", "Open it once for writing")
        batches: list[CommitRequest] = []
        for request in requests:
            base = sum(1 for batch in batches if batch.writes)
            batches.append(replace(request, base=base, token=secrets.token_hex(8)))
        refuse_eviction(self)
        self._registry(lambda client: client.sadd(REGISTRY, self.namespace))

        def act(client: Any) -> Any:
            if not isinstance(client, redis.Redis):  # a cluster: its own pipelines take no scripts
                client = client.get_redis_connection(client.get_node_from_key(self._keys[0]))
            pipe = client.pipeline(transaction=True)
            for batch in batches:
                pipe.eval(COMMIT, len(self._keys), *self._keys, *self._commit_args(batch, (b"", b""), new=True))
            return pipe.execute()

        self._with_retry(act, commit=True)
