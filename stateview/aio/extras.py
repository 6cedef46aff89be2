"""The parts of an AsyncStateManager that few programs use, imported when they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..encryption import Encryption
from ..manager import StateManager
from ..transfer.import_job import ImportJob
from .calls import Face, call, call_giving
from .views import AsyncDiff

T = TypeVar("T")


class AsyncEncryption(Face[StateManager]):
    """Encrypt the namespace of a manager, and say which keys open it: `Encryption` with `await`."""

    async def _run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        return await super()._run(lambda manager: function(manager.encryption, *args, **kwargs))

    new_key = staticmethod(Encryption.new_key)
    status = call(Encryption.status)
    turn_on = call(Encryption.turn_on)
    turn_off = call(Encryption.turn_off)
    add_key = call(Encryption.add_key)
    remove_key = call(Encryption.remove_key)
    rotate_key = call(Encryption.rotate_key)
    rotate_data_key = call(Encryption.rotate_data_key)
    check_open = call(Encryption.check_open)


class AsyncImportJob(Face[ImportJob]):
    """An opened import, see `ImportJob`. `AsyncStateManager.open_import` opens it."""

    refresh = call(ImportJob.refresh)
    preview = call_giving(AsyncDiff, ImportJob.preview)
    execute = call(ImportJob.execute)
    committed_revision = call(ImportJob.committed_revision)
    plan = call(ImportJob.plan)
    source_state = call(ImportJob.source_state)
    close = call(ImportJob.close)
