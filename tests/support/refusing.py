"""A Redis that answers that it cannot do now what it is asked, or that nobody may ask it."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal, get_args

from tests.support.patience import wait_until
from tests.support.servers import RedisServer
from tests.support.servers.redis import call, info

Refusal = Literal["READONLY", "NOREPLICAS", "OOM", "MISCONF"]
"""The codes of its answers."""

REFUSALS: Final[tuple[Refusal, ...]] = get_args(Refusal)


@contextmanager
def refusing(kind: Refusal, *servers: RedisServer) -> Generator[None]:
    """Let servers refuse to write until the block ends."""
    for server in servers:
        _begin(kind, server)
    try:
        yield
    finally:
        for server in servers:
            _end(kind, server)


def _begin(kind: Refusal, server: RedisServer) -> None:
    with server.client() as client:
        match kind:
            case "READONLY":
                call(client, "REPLICAOF", "127.0.0.1", "1")
            case "NOREPLICAS":
                call(client, "CONFIG", "SET", "min-replicas-to-write", "1")
            case "OOM":
                call(client, "CONFIG", "SET", "maxmemory", "1")
            case "MISCONF":
                # A snapshot cannot take the place of a folder. That a change is to be kept makes it refuse.
                _snapshot(server).mkdir()
                call(client, "BGSAVE")
                wait_until(
                    lambda: info(client, "persistence")["rdb_last_bgsave_status"] == "err",
                    10,
                    "a snapshot has failed",
                )
                call(client, "CONFIG", "SET", "save", "36000 1000000000")


def _end(kind: Refusal, server: RedisServer) -> None:
    with server.client() as client:
        match kind:
            case "READONLY":
                call(client, "REPLICAOF", "NO", "ONE")
            case "NOREPLICAS":
                call(client, "CONFIG", "SET", "min-replicas-to-write", "0")
            case "OOM":
                call(client, "CONFIG", "SET", "maxmemory", "0")
            case "MISCONF":
                call(client, "CONFIG", "SET", "save", "")
                _snapshot(server).rmdir()


def _snapshot(server: RedisServer) -> Path:
    return server.folder / "dump.rdb"


@contextmanager
def locked_out(*servers: RedisServer, rules: Sequence[str] = ()) -> Generator[None]:
    """Let servers refuse everybody until the block ends.

    Args:
        rules: What their user may not do any more, as ACL SETUSER takes it. By default another password
            is asked for, of everybody who connects, and the connections that there are are closed.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        for client in clients:
            if rules:
                call(client, "ACL", "SETUSER", "default", *rules)
            else:
                call(client, "CONFIG", "SET", "requirepass", "another")
                for kind in ("normal", "pubsub"):
                    call(client, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        try:
            yield
        finally:
            for client in clients:
                if rules:
                    call(client, "ACL", "SETUSER", "default", "~*", "&*", "+@all")
                else:
                    call(client, "CONFIG", "SET", "requirepass", "")
