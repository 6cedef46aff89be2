"""The client of a cluster: redis-py's, without the questions to a node that this package's commands do not need."""

from __future__ import annotations

from typing import Any, ClassVar

from redis.cluster import RedisCluster


class Cluster(RedisCluster):
    """A client that learns where commands have their keys once for each process, and not before it needs it.

    The reply to COMMAND takes redis-py 15 ms to parse. redis-py asks again for a command that is not in the reply.
    """

    _found: ClassVar[dict[str, Any]] = {}  # what a server has said of each of its commands

    def command(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002
        """Return what is known of the commands; redis-py calls it to open the client."""
        return dict(Cluster._found)

    def determine_slot(self, *args: Any) -> int | None:
        """Return the slot of a command. redis-py asks a node for that of a script, unless it is EVAL or EVALSHA."""
        if args[0] in ("EVAL_RO", "EVALSHA_RO"):
            args = (args[0].removesuffix("_RO"), *args[1:])
        elif args[0] not in ("EVAL", "EVALSHA") and not self.commands_parser.commands:
            Cluster._found = Cluster._found or super().command()
            self.commands_parser.commands = Cluster._found
        return super().determine_slot(*args)
