"""The Redis fast path, chosen and left, under every pool."""

from collections.abc import Iterator
from typing import cast

import pytest
from redis import Redis

from tests.integration.conftest import TIMEOUT, deploy
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool

SERVICE = "tests.integration.asyncio_service"


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server whose counters nobody else moves."""
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize(
    ("pool", "setting", "fast"),
    [
        ("asyncio", None, True),
        ("asyncio", "false", False),
        ("prefork", "true", True),
        ("threads", "true", True),
        ("solo", "true", True),
        ("prefork", None, False),
    ],
)
def test_messages_are_fetched_by_script_where_that_is_chosen(
    own: RedisServer, mariadb_server: MariaDBServer, pool: Pool, setting: str | None, fast: bool
) -> None:
    environment = {} if setting is None else {"CELERY_REDIS_FAST_PATH": setting}
    with deploy(own, mariadb_server) as fresh:
        fresh.running = fresh.worker(pool, 2, module=SERVICE, environment=environment)
        client = Redis(port=own.port, password=own.password)

        sent = [fresh.send(f"{SERVICE}.add", number, 1) for number in range(60)]

        assert [result.get(timeout=TIMEOUT) for result in sent] == list(range(1, 61))
        counted = information(client, "commandstats")
        assert ("cmdstat_brpop" not in counted) is fast
        fresh.running.stop()
        assert left_of(client) == 0
        client.close()


def information(client: Redis, section: str) -> dict[str, object]:
    """What the server tells of itself."""
    return cast("dict[str, object]", client.info(section))  # pyright: ignore[reportUnknownMemberType]


def left_of(client: Redis) -> int:
    """How many messages are recorded as unacknowledged, in whichever database."""
    spaces = information(client, "keyspace")
    left = 0
    for name in spaces:
        client.select(int(name.removeprefix("db")))  # pyright: ignore[reportUnknownMemberType]
        left += client.hlen("unacked") + client.zcard("unacked_index")
    return left
