"""redis_client on real servers: one Redis, a Sentinel with its master and replica, a cluster."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import pytest
import redis
from celery import shared_task

from tests.support.deployment import AWKWARD, eventually
from tests.support.patience import patience
from tests.support.servers import RedisClusterNode, RedisServer, SentinelCluster
from tests.support.servers.redis import fresh_redis_db
from tomskit.celery import AsyncCelery, AsyncRuntime, AsyncTaskRunner
from tomskit.errors import NotInitializedError
from tomskit.redis import RedisConfig, redis_pool
from tomskit.redis.redis_pool import redis_client

LOOKING = "looking"
"""What a test's own connections are called."""

REDIS_PY = tuple(int(part) for part in redis.__version__.split(".")[:3])

LAST_DB = 15
"""Of the servers behind Sentinel, whose first databases other tests use."""

pytestmark = pytest.mark.usefixtures("clean_process")


class Pipeline(Protocol):
    def set(self, key: str, value: str) -> object: ...
    def append(self, key: str, value: str) -> object: ...
    def get(self, key: str) -> object: ...
    def eval(self, script: str, numkeys: int, *keys: str) -> object: ...
    def blpop(self, keys: list[str], timeout: int) -> object: ...
    async def execute(self) -> list[object]: ...


class PubSub(Protocol):
    async def subscribe(self, channel: str) -> None: ...
    def get_message(self, *, timeout: None) -> Awaitable[object]: ...


class Client(Protocol):
    """What redis-py leaves partly without types."""

    async def execute_command(self, *words: str | int) -> object: ...
    def pipeline(
        self, transaction: bool | None = None
    ) -> AbstractAsyncContextManager[Pipeline]: ...
    def pubsub(self) -> AbstractAsyncContextManager[PubSub]: ...


client = cast("Client", redis_client)


def make_app(config: RedisConfig) -> AsyncCelery:
    """An app that runs tasks where they are called."""
    return AsyncCelery(
        "test",
        broker="memory://",
        backend="cache+memory://",
        redis=config,
        task_always_eager=True,
    )


@dataclass
class Place:
    """A Redis of any kind, as redis_client is told of it and as a test looks into it."""

    config: RedisConfig
    servers: list[RedisServer] = field(repr=False)

    def look(self) -> redis.Redis:
        """A client of the server that takes writes."""
        master = next(server for server in self.servers if server.is_master())
        return master.client(self.config.REDIS_DB, name=LOOKING)

    def connections(self) -> int:
        """How many connections redis_client has."""
        return sum(len(self._ours(server)) for server in self.servers)

    def blocked(self) -> int:
        """How many of them wait in a command such as BLPOP."""
        return sum(c["flags"] == "b" for server in self.servers for c in self._ours(server))

    def _ours(self, server: RedisServer) -> list[dict[str, str]]:
        # In a database that only this test uses, unless the server has but one.
        db = str(self.config.REDIS_DB)
        return [c for c in server.clients() if c["db"] == db and c["name"] != LOOKING]


@pytest.fixture(scope="module")
def one_node_cluster() -> Iterator[RedisClusterNode]:
    with RedisClusterNode(password=AWKWARD) as node:
        yield node


@pytest.fixture
def plain(redis_server: RedisServer) -> Place:
    db = fresh_redis_db(redis_server)
    config = RedisConfig(
        REDIS_HOST=db.host, REDIS_PORT=db.port, REDIS_DB=db.result_db, REDIS_MAX_CONNECTIONS=5
    )
    return Place(config, [redis_server])


@pytest.fixture
def behind_sentinel(sentinel_cluster: SentinelCluster) -> Place:
    config = RedisConfig(
        REDIS_USE_SENTINEL=True,
        REDIS_SENTINELS=",".join(f"{host}:{port}" for host, port in sentinel_cluster.sentinels),
        REDIS_SENTINEL_MASTER_NAME=sentinel_cluster.master_name,
        REDIS_SENTINEL_SOCKET_TIMEOUT=1,
        REDIS_DB=LAST_DB,
        REDIS_MAX_CONNECTIONS=5,
    )
    return Place(config, sentinel_cluster.nodes)


@pytest.fixture
def in_cluster(one_node_cluster: RedisClusterNode) -> Place:
    config = RedisConfig(
        REDIS_USE_CLUSTER=True,
        REDIS_HOST=one_node_cluster.host,
        REDIS_PORT=one_node_cluster.port,
        REDIS_PASSWORD=AWKWARD,
        REDIS_MAX_CONNECTIONS=5,
    )
    return Place(config, [one_node_cluster])


@pytest.fixture(params=["plain", "behind_sentinel", "in_cluster"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


async def remember(value: str) -> object:
    await redis_client.set("remembered", value)
    return await redis_client.get("remembered")


def test_answers_are_text(place: Place) -> None:
    AsyncRuntime.init(make_app(place.config))

    assert AsyncRuntime.run(remember("grün")) == "grün"
    with place.look() as looking:
        assert looking.get("remembered") == "grün"


def test_fifty_commands_at_once_share_the_configured_number_of_connections(place: Place) -> None:
    """They wait for one instead of failing."""

    async def take() -> int:
        _, value = cast("list[str]", await client.execute_command("BLPOP", "numbers", 0))
        return int(value)

    async def take_all() -> list[int]:
        taking = asyncio.gather(*(take() for _ in range(50)))
        with place.look() as looking:
            await asyncio.to_thread(eventually, lambda: place.blocked() == 5)
            for number in range(50):
                looking.rpush("numbers", number)
                most.append(place.connections())
        return await taking

    most: list[int] = []
    AsyncRuntime.init(make_app(place.config))

    taken = AsyncRuntime.run(take_all())

    assert sorted(taken) == list(range(50))
    # A cluster's client may have one more, to ask for the cluster's layout.
    assert 5 <= max(most) <= 5 + place.config.REDIS_USE_CLUSTER


def test_pipelines_wait_for_a_connection_as_commands_do(place: Place) -> None:
    async def take() -> int:
        _, value = cast("list[str]", await client.execute_command("BLPOP", "numbers", 0))
        return int(value)

    async def take_by_pipeline() -> int:
        async with client.pipeline(transaction=False) as pipe:
            pipe.blpop(["numbers"], 0)
            [[_, value]] = cast("list[list[str]]", await pipe.execute())
        return int(value)

    async def take_all() -> list[int]:
        takers = (take, take_by_pipeline)
        taking = asyncio.gather(*(takers[number % 2]() for number in range(30)))
        with place.look() as looking:
            await asyncio.to_thread(eventually, lambda: place.blocked() == 5)
            for number in range(30):
                looking.rpush("numbers", number)
        return await taking

    AsyncRuntime.init(make_app(place.config))

    assert sorted(AsyncRuntime.run(take_all())) == list(range(30))


def test_a_pipeline_on_a_cluster_asks_again_with_the_connection_that_it_has(
    in_cluster: Place,
) -> None:
    """Where a slot has moved, or is about to."""
    script = (
        "if redis.call('INCR', KEYS[1]) == 1 then return redis.error_reply('TRYAGAIN later') end "
        "return 'done'"
    )

    async def ask() -> list[object]:
        await redis_client.delete("asked")
        async with client.pipeline() as pipe:
            pipe.eval(script, 1, "asked")
            return await asyncio.wait_for(pipe.execute(), patience(10))

    config = in_cluster.config.model_copy(update={"REDIS_MAX_CONNECTIONS": 1})
    AsyncRuntime.init(make_app(config))

    assert AsyncRuntime.run(ask()) == ["done"]


def test_commands_survive_that_the_server_closes_all_connections(place: Place) -> None:
    """As with redis-py's own client, which tries again."""

    async def count() -> int:
        return await redis_client.incr("counted")

    async def count_all() -> list[int]:
        await asyncio.gather(*(count() for _ in range(100)))
        before = place.connections()
        with place.look() as looking:
            untyped: Any = looking
            untyped.client_kill_filter(_type="normal", skipme=True)
        assert before > 0
        return await asyncio.gather(*(count() for _ in range(100)))

    with place.look() as looking:
        looking.delete("counted")
    AsyncRuntime.init(make_app(place.config))

    assert sorted(AsyncRuntime.run(count_all())) == list(range(101, 201))


def test_long_wait_for_a_connection_is_told_of(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_pool, "_WARN_AFTER", 0.1)

    def is_told() -> bool:
        return "waiting for a Redis connection for 0.2s: all 5 are in use" in caplog.text

    async def take_all() -> list[object]:
        taking = asyncio.gather(*(client.execute_command("BLPOP", "list", 0) for _ in range(6)))
        with place.look() as looking:
            await asyncio.to_thread(eventually, is_told)
            for number in range(6):
                looking.rpush("list", number)
        return await taking

    AsyncRuntime.init(make_app(place.config))

    assert len(AsyncRuntime.run(take_all())) == 6


# Not behind Sentinel: Python 3.11 may lose a cancellation while the sentinels are asked, as that
# has a timeout.
@pytest.mark.parametrize(
    "place",
    [
        "plain",
        pytest.param(
            "in_cluster",
            marks=pytest.mark.skipif(
                REDIS_PY < (8, 0, 1),
                reason="RedisCluster before redis-py 8.0.1 keeps the connection of a command that "
                "is cancelled while it is sent",
            ),
        ),
    ],
    indirect=True,
)
def test_cancelling_a_task_in_the_middle_of_its_commands_ends_it(place: Place) -> None:
    async def ask_forever() -> None:
        while True:
            await redis_client.get("key")

    async def cancel_many() -> int:
        ended = 0
        for turn in range(300):
            asking = asyncio.create_task(ask_forever())
            # At a different point of the command each time.
            for _ in range(turn % 50 + 1):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking], timeout=patience(5))
            ended += asking.cancelled()
            if not asking.done():
                break
        return ended

    AsyncRuntime.init(make_app(place.config))

    assert AsyncRuntime.run(cancel_many()) == 300


def test_pipeline_sends_all_at_once(place: Place) -> None:
    async def write() -> list[object]:
        async with client.pipeline() as pipe:
            pipe.set("word", "grü")
            pipe.append("word", "n")
            pipe.get("word")
            return await pipe.execute()

    AsyncRuntime.init(make_app(place.config))

    assert AsyncRuntime.run(write()) == [True, 5, "grün"]


def test_published_messages_arrive(plain: Place) -> None:
    async def talk() -> list[object]:
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("news")
            heard: list[object] = [await pubsub.get_message(timeout=None)]
            await client.execute_command("PUBLISH", "news", "snö")
            heard.append(await pubsub.get_message(timeout=None))
            return heard

    AsyncRuntime.init(make_app(plain.config))

    assert AsyncRuntime.run(talk()) == [
        {"type": "subscribe", "pattern": None, "channel": "news", "data": 1},
        {"type": "message", "pattern": None, "channel": "news", "data": "snö"},
    ]
    eventually(lambda: plain.connections() <= 2)


def test_failover_is_survived(behind_sentinel: Place, sentinel_cluster: SentinelCluster) -> None:
    AsyncRuntime.init(make_app(behind_sentinel.config))
    AsyncRuntime.run(remember("before"))
    before = sentinel_cluster.master_address()

    sentinel_cluster.failover()
    sentinel_cluster.wait_for_demotion()

    assert sentinel_cluster.master_address() != before
    assert AsyncRuntime.run(remember("after")) == "after"
    with behind_sentinel.look() as looking:
        assert looking.get("remembered") == "after"


def test_password_is_passed_on_as_it_is() -> None:
    with RedisServer(password=AWKWARD, username="us:er@+é") as server:
        config = RedisConfig(
            REDIS_HOST=server.host,
            REDIS_PORT=server.port,
            REDIS_USERNAME="us:er@+é",
            REDIS_PASSWORD=AWKWARD,
        )
        AsyncRuntime.init(make_app(config))

        assert AsyncRuntime.run(remember("x")) == "x"
        AsyncRuntime.shutdown()


def test_repr_shows_no_password(in_cluster: Place, plain: Place) -> None:
    async def shown() -> str:
        return repr(redis_client)

    single = plain.config.model_copy(update={"REDIS_PASSWORD": AWKWARD})
    for config in (in_cluster.config, single):
        AsyncRuntime.init(make_app(config))
        assert AsyncRuntime.run(shown()).startswith("<redis_client: Redis")
        assert AWKWARD not in AsyncRuntime.run(shown()) + repr(config)
    assert repr(redis_client) == "<redis_client: not initialised>"


def test_outside_of_a_loop_it_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"outside of an event loop.*AsyncRuntime\.init"):
        client.pipeline()


def test_in_a_loop_that_has_no_client_it_says_what_to_do(plain: Place) -> None:
    AsyncRuntime.init(make_app(plain.config))

    with pytest.raises(NotInitializedError, match=r"this event loop.*use_redis=True"):
        asyncio.run(remember("x"))


def test_runtime_closes_every_connection(place: Place) -> None:
    async def many() -> None:
        await asyncio.gather(*(redis_client.get(f"key {i}") for i in range(5)))

    AsyncRuntime.init(make_app(place.config))
    AsyncRuntime.run(many())
    assert place.connections() > 0

    AsyncRuntime.shutdown()

    eventually(lambda: place.connections() == 0)


def test_runner_closes_every_connection(place: Place) -> None:
    async def count() -> int:
        await asyncio.gather(*(redis_client.get(f"key {i}") for i in range(5)))
        return await asyncio.to_thread(place.connections)

    make_app(place.config)

    assert AsyncTaskRunner(count, use_db=False, use_redis=True).run() > 0

    eventually(lambda: place.connections() == 0)


def test_runner_closes_every_connection_of_a_function_that_fails(plain: Place) -> None:
    async def fail() -> None:
        await redis_client.get("key")
        raise LookupError

    make_app(plain.config)

    with pytest.raises(LookupError):
        AsyncTaskRunner(fail, use_db=False, use_redis=True).run()

    eventually(lambda: plain.connections() == 0)


def test_connections_to_the_sentinels_are_closed_as_well(
    behind_sentinel: Place, sentinel_cluster: SentinelCluster
) -> None:
    def asking() -> int:
        return len(sentinel_cluster.sentinel_servers[0].clients())

    before = asking()
    AsyncRuntime.init(make_app(behind_sentinel.config))
    AsyncRuntime.run(remember("x"))
    assert asking() > before

    AsyncRuntime.shutdown()

    eventually(lambda: asking() <= before)


def test_tasks_and_runners_each_have_a_client_of_their_own_loop(plain: Place) -> None:
    @shared_task
    def both() -> list[object]:
        runner = AsyncTaskRunner(remember, use_db=False, use_redis=True)
        return [AsyncRuntime.run(remember("a")), runner.run("b"), AsyncRuntime.run(remember("c"))]

    app = make_app(plain.config)
    app.finalize()

    assert both.delay().get() == ["a", "b", "c"]
