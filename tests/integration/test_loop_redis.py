"""redis-py's client for plain functions, which waits in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support.patience import patience, slowed
from tests.support.servers import RedisServer
from tests.support.servers.base import outage
from tomskit.celery._running.greenlets import GreenletCoroutine
from tomskit.celery.fast_redis.batches import Batches
from tomskit.celery.fast_redis.loop_redis import loop_redis

T = TypeVar("T")


@contextmanager
def looking(server: RedisServer) -> Generator[Any]:
    with server.client() as client:
        yield client


def with_batches(
    server: RedisServer, function: Callable[[Batches], Awaitable[T]], **parameters: Any
) -> T:
    async def main() -> T:
        pool = redis.ConnectionPool(host=server.host, port=server.port, **parameters)
        batches = Batches(pool)
        try:
            async with asyncio.timeout(patience(30)):
                return await function(batches)
        finally:
            await batches.close()

    return asyncio.run(main())


def in_greenlet(server: RedisServer, function: Callable[[Any], T], *, prefix: str = "") -> T:
    """What a plain function returns that gets the client."""

    async def call(batches: Batches) -> T:
        pool = redis.ConnectionPool(host=server.host, port=server.port)
        client = loop_redis(pool, batches, prefix=prefix)
        return await GreenletCoroutine(lambda: function(client), owner="test")

    return with_batches(server, call)


def plain(server: RedisServer, function: Callable[[Any], T]) -> T:
    """The same with redis-py's own client."""
    with redis.Redis(host=server.host, port=server.port) as client:
        return function(client)


def use_commands(client: Any) -> list[object]:
    return [
        client.flushdb(),
        client.set("text", "a"),
        client.get("text"),
        client.get("nothing"),
        client.hset("hash", mapping={"a": 1, "b": 2}),
        client.hgetall("hash"),
        client.zadd("sorted", {"a": 1.5}),
        client.zrange("sorted", 0, -1, withscores=True),
        client.sadd("set", "a"),
        client.smembers("set"),
        client.exists("hash", "nothing"),
        client.ping(),
    ]


def test_answers_are_those_of_redis_py(own: RedisServer) -> None:
    assert in_greenlet(own, use_commands) == plain(own, use_commands)


@pytest.mark.parametrize("transaction", [True, False])
def test_pipelines_answer_as_those_of_redis_py(own: RedisServer, transaction: bool) -> None:
    def use(client: Any) -> list[object]:
        with client.pipeline(transaction=transaction) as pipeline:
            pipeline.flushdb().set("text", "a").incr("number").hset("hash", "a", "1")
            pipeline.hgetall("hash").zadd("sorted", {"a": 1.5})
            pipeline.zrange("sorted", 0, -1, withscores=True)
            first = pipeline.execute()
            return [first, pipeline.execute(), pipeline.get("text").execute()]

    assert in_greenlet(own, use) == plain(own, use)


@pytest.mark.parametrize("transaction", [True, False])
def test_error_in_a_pipeline_is_raised_or_told(own: RedisServer, transaction: bool) -> None:
    def use(client: Any) -> list[object]:
        client.set("text", "a")
        pipeline = client.pipeline(transaction=transaction)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            pipeline.set("before", 1).lpush("text", "a").set("after", 1).execute()
        told = pipeline.lpush("text", "a").get("text").execute(raise_on_error=False)
        assert isinstance(told[0], ResponseError)
        return [client.get("before"), client.get("after"), told[1]]

    assert in_greenlet(own, use) == [b"1", b"1", b"a"]


def test_transaction_that_cannot_be_executed_says_why(own: RedisServer) -> None:
    def use(client: Any) -> None:
        pipeline = client.pipeline()
        pipeline.set("text", "b").execute_command("GET", "too", "many")
        with pytest.raises(ResponseError, match="wrong number of arguments"):
            pipeline.execute()
        assert client.get("text") == b"a"

    plain(own, lambda client: client.set("text", "a"))
    in_greenlet(own, use)


def test_error_is_raised_where_the_command_was_given(own: RedisServer) -> None:
    def use(client: Any) -> None:
        client.set("text", "a")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            client.lpush("text", "a")

    in_greenlet(own, use)


def test_keys_have_the_prefix(own: RedisServer) -> None:
    def use(client: Any) -> list[object]:
        client.lpush("list", "a")
        with client.pipeline() as pipeline:
            answers = pipeline.lpush("list", "b").llen("list").execute()
        return [*answers, client.rpop("list")]

    assert in_greenlet(own, use, prefix="mine:") == [2, 2, b"a"]
    assert plain(own, lambda client: client.lrange("mine:list", 0, -1)) == [b"b"]


# -- many at once


def test_commands_are_executed_in_their_order(own: RedisServer) -> None:
    async def push(batches: Batches) -> object:
        await asyncio.gather(*(batches.run(("RPUSH", "order", n)) for n in range(500)))
        [answer] = await batches.run(("LRANGE", "order", 0, -1))
        return answer

    assert with_batches(own, push) == [str(number).encode() for number in range(500)]


def test_waiter_that_is_cancelled_disturbs_nobody(own: RedisServer) -> None:
    async def run(batches: Batches) -> list[object]:
        sent, other = (asyncio.ensure_future(batches.run(("INCR", "cancelled"))) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # they are on their way by now
        unsent = asyncio.ensure_future(batches.run(("INCR", "cancelled")))
        await asyncio.sleep(0)
        sent.cancel()
        unsent.cancel()
        return [*await other, *await batches.run(("INCR", "cancelled"))]

    # What had not been sent is not.
    assert with_batches(own, run) == [2, 3]


def test_connection_that_the_server_has_closed_is_made_again(own: RedisServer) -> None:
    async def run(batches: Batches) -> list[object]:
        await batches.run(("SET", "text", "a"))
        with looking(own) as client:
            client.client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0.05)
        return await batches.run(("GET", "text"))

    assert with_batches(own, run) == [b"a"]


def test_server_that_hangs_is_given_up_after_the_timeout(own: RedisServer) -> None:
    # What it does when it does not hang takes longer on a busy machine.
    timeout = round(slowed(1.0), 1)

    async def run(batches: Batches) -> list[object]:
        await batches.run(("SET", "text", "a"))
        with (
            outage(own, "hanging"),
            pytest.raises(RedisTimeoutError, match=rf"not answered for {timeout} s"),
        ):
            await batches.run(("GET", "text"))
        return await batches.run(("GET", "text"))

    assert with_batches(own, run, socket_timeout=timeout) == [b"a"]


def test_server_that_is_away_is_an_error_for_all_who_wait() -> None:
    with RedisServer() as server:
        address = server

    async def run(batches: Batches) -> list[object]:
        waiting = (batches.run(("GET", "text")) for _ in range(3))
        return await asyncio.gather(*waiting, return_exceptions=True)

    errors = with_batches(address, run)

    assert [type(error) for error in errors] == [RedisConnectionError] * 3


def test_who_waits_when_it_is_closed_is_cancelled(own: RedisServer) -> None:
    async def run(batches: Batches) -> None:
        await batches.run(("SET", "text", "a"))
        with outage(own, "hanging"):
            waiting = [asyncio.ensure_future(batches.run(("GET", "text"))) for _ in range(2)]
            await asyncio.sleep(0.05)
            waiting.append(asyncio.ensure_future(batches.run(("GET", "text"))))
            await asyncio.sleep(0)
            await batches.close()
            await asyncio.wait(waiting)
        assert all(waiter.cancelled() for waiter in waiting)

    with_batches(own, run)


def test_only_the_timeout_that_was_set_counts(own: RedisServer) -> None:
    # redis-py has one of five seconds of its own.
    async def run(batches: Batches) -> list[object]:
        return await batches.run(("BLPOP", "nothing", 5.2))

    assert with_batches(own, run, socket_timeout=20) == [None]
    assert with_batches(own, run, socket_timeout=None) == [None]
