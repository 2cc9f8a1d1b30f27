"""The Redis fast path, chosen and left, under every pool."""

from collections.abc import Iterator
from typing import cast

import pytest
from redis import Redis

from tests.support.deployment import TIMEOUT, Deployment, deploy
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool
from tomskit.celery.fast_redis.parts import connection_class, fast_parts

SERVICE = "tests.integration.asyncio_service"
MANY_DATABASES = [("databases", "2000")]
FAST = {"CELERY_REDIS_FAST_PATH": "true"}


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server whose counters nobody else moves."""
    with RedisServer(config=MANY_DATABASES) as server:
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


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_server_that_does_not_tell_of_changes_is_asked_as_celery_does(
    own: RedisServer, mariadb_server: MariaDBServer, pool: Pool
) -> None:
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-client")  # pyright: ignore[reportUnknownMemberType]
    with deploy(own, mariadb_server) as fresh:
        worker = fresh.worker(pool, 2, module=SERVICE, environment=FAST)

        sent = [fresh.send(f"{SERVICE}.add", number, 1) for number in range(10)]

        assert [result.get(timeout=TIMEOUT) for result in sent] == list(range(1, 11))
        assert "The Redis fast path needs Redis 6" in worker.text
        assert worker.stop() == 0


def test_channel_without_acknowledgements_is_closed(own: RedisServer) -> None:
    connection = connection_class(fast_parts(tasks_run="elsewhere"))(
        f"redis://{own.host}:{own.port}", transport_options={"ack_emulation": False}
    )
    with connection, connection.SimpleQueue("celery") as queue:
        queue.put("message")

        assert queue.get(timeout=TIMEOUT).payload == "message"


def test_what_is_no_message_is_named_and_holds_nothing_up(deployment: Deployment) -> None:
    worker = deployment.worker("asyncio", 2, module=SERVICE)
    db = deployment.redis_db
    with deployment.redis.client(db.broker_db) as client:
        client.lpush("celery", "no message", '{"properties": {"delivery_tag": 7}}')

    assert deployment.send(f"{SERVICE}.add", 1, 1).get(timeout=TIMEOUT) == 2

    worker.wait_for_line("Dropped from celery, not a message of kombu: b'no message'")
    worker.wait_for_line("Dropped from celery, .*delivery_tag")


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
