"""A service whose tasks loops send and await, and what tests see of its Redis."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol, TypeVar, cast

from redis import Redis

from tests.integration import async_client_service as service_module
from tests.support.deployment import Deployment, working
from tests.support.servers import (
    MariaDBServer,
    RedisServer,
)
from tests.support.workers import Pool

T = TypeVar("T")

MODULE = service_module.__name__
MANY = 300
MANY_DATABASES = [("databases", "2000")]


class RedisCommands(Protocol):
    """redis-py's client, as far as it is used here."""

    def info(self, section: str) -> dict[str, dict[str, int]]: ...
    def pubsub_channels(self) -> list[bytes]: ...
    def client_kill_filter(self, *, _type: str, skipme: bool = True) -> int: ...
    def client_pause(self, timeout: int) -> None: ...
    def get(self, key: str) -> bytes | None: ...
    def set(self, key: str, value: str) -> object: ...
    def keys(self) -> list[bytes]: ...
    def lrange(self, key: bytes, start: int, end: int) -> list[bytes]: ...
    def delete(self, *keys: bytes) -> int: ...


@contextmanager
def looking(server: RedisServer, db: int = 0) -> Generator[RedisCommands]:
    with Redis(host=server.host, port=server.port, password=server.password, db=db) as redis:
        yield cast("RedisCommands", redis)


@contextmanager
def serve(
    server: RedisServer,
    mariadb: MariaDBServer,
    pool: Pool = "threads",
    **environment: str,
) -> Generator[Deployment]:
    with working(server, mariadb, pool, 4, module=MODULE, **environment) as made:
        yield made


def calls(stats: dict[str, dict[str, int]], command: str) -> int:
    return stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]
