"""Tasks are sent and results awaited in event loops, without blocking them."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Protocol, cast

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError

from tests.integration.async_client_service import (
    add,
    forget,
    nap,
    refuse,
    total,
    wait_for,
)
from tests.integration.typed_service import client as client_app
from tests.support.async_client import MANY, RedisCommands, calls, looking
from tests.support.deployment import TIMEOUT, Deployment, deploy, eventually
from tests.support.loops import run, sockets, ticks_while, until
from tests.support.patience import slowed
from tests.support.remote import fresh_key
from tests.support.servers import (
    MariaDBServer,
    RedisServer,
)
from tomskit.celery import AsyncCelery, TypedResult, chain, chord, group
from tomskit.celery._client import subscriptions

pytestmark = pytest.mark.usefixtures("clean_process")

# -- many at once


@pytest.mark.usefixtures("async_app")
def test_many_are_sent_and_awaited_at_once_on_three_connections(
    quiet_redis: RedisServer, async_service: Deployment
) -> None:
    assert async_service.running is not None
    worker = async_service.running

    async def main() -> tuple[list[int], int]:
        before = sockets()
        # All are awaited before the first result is there, and the loop then does nothing before
        # the last one is. So how many commands there are does not depend on who is faster.
        worker.send_signal(signal.SIGSTOP)
        try:
            sent = await asyncio.gather(*(add.adelay(number, 1) for number in range(MANY)))
            waiting = asyncio.gather(*sent)
            with looking(quiet_redis) as redis:
                await until(lambda: len(redis.pubsub_channels()) == MANY)
        finally:
            worker.send_signal(signal.SIGCONT)
        with looking(quiet_redis, async_service.redis_db.result_db) as redis:
            keys = [f"celery-task-meta-{one.id}" for one in sent]
            eventually(lambda: all(b"SUCCESS" in (redis.get(key) or b"") for key in keys))
        return await waiting, sockets() - before

    with looking(quiet_redis) as redis:
        before, closed = redis.info("commandstats"), sockets()
        values, connections = run(main())
        after = redis.info("commandstats")

        assert values == list(range(1, MANY + 1))
        # One to send, one to listen, one to read what was there already.
        assert connections == 3
        assert calls(after, "lpush") - calls(before, "lpush") == MANY
        # Not one for each: how many there are depends on how the turns of the loop fall.
        for command in ("subscribe", "mget", "unsubscribe"):
            assert calls(after, command) - calls(before, command) < MANY / 5
        eventually(lambda: redis.pubsub_channels() == [])
        assert sockets() == closed


@pytest.mark.usefixtures("async_app")
def test_loop_goes_on_while_redis_hangs(quiet_redis: RedisServer) -> None:
    pause = round(slowed(300))

    async def main() -> tuple[int, int, int]:
        await add.adelay(1, 1)
        with looking(quiet_redis) as redis:
            redis.client_pause(pause)
        sending, sent = await ticks_while(add.adelay(1, 2))
        with looking(quiet_redis) as redis:
            redis.client_pause(pause)
        awaiting, value = await ticks_while(sent)
        return sending, awaiting, value

    sending, awaiting, value = run(main())

    # Were it held up, it would come round once; on a fast machine it does sixty times.
    assert sending > 3
    assert awaiting > 3
    assert value == 3


# -- what results and errors are


@pytest.mark.usefixtures("async_app")
def test_errors_are_raised_as_by_get() -> None:
    async def main() -> None:
        with pytest.raises(LookupError, match="no 1 here"):
            await (await refuse.adelay(1))
        failed: object = await (await refuse.adelay(2)).aget(propagate=False)
        assert isinstance(failed, LookupError)
        # Of one before it in the chain; what comes after it never runs.
        with pytest.raises(LookupError, match="no 3 here"):
            await (await chain(refuse.s(3), add.s(1), add.s(1)).adelay())
        with pytest.raises(LookupError, match="no 4 here"):
            await (await group([add.s(1, 1), refuse.s(4)]).adelay())
        sent = await group([add.s(1, 1), refuse.s(5)]).adelay()
        kept: list[object] = [*await sent.aget(propagate=False)]
        assert kept[0] == 2
        assert isinstance(kept[1], LookupError)

    run(main())


@pytest.mark.usefixtures("async_app")
def test_workflows_are_sent_and_awaited() -> None:
    async def main() -> list[object]:
        members = group(add.s(number, number) for number in range(20))
        in_a_group = await members.adelay()
        in_a_chord = await chord(members, total.s()).adelay()
        after_a_group = await chain(members, total.s(), add.s(1)).adelay()
        return [
            await (await add.aapply_async((1, 2), countdown=0.1)),
            await (await add.options(countdown=0.1).adelay(1, 3)),
            await (await add.s(2).adelay(3)),
            await (await chain(add.s(1, 2), add.s(3)).adelay()),
            await in_a_group,
            await in_a_chord,
            await after_a_group,
        ]

    assert run(main()) == [3, 4, 5, 6, [2 * n for n in range(20)], 380, 381]


@pytest.mark.usefixtures("async_app")
def test_ignored_result_is_not_waited_for() -> None:
    async def main() -> None:
        await (await forget.options(ignore_result=True).adelay())

    run(main())


def test_group_that_was_sent_by_a_loop_is_read_by_get(async_app: AsyncCelery) -> None:
    sent = run(group(add.s(number, 1) for number in range(20)).adelay())

    assert sent.get(timeout=TIMEOUT, interval=0.01) == list(range(1, 21))


@pytest.mark.usefixtures("async_app")
def test_result_that_is_there_is_read_and_one_that_is_not_times_out() -> None:
    async def main() -> None:
        sent = await add.adelay(1, 2)
        await sent
        again = add.AsyncResult(sent.id)
        assert await again.aget(timeout=TIMEOUT) == 3
        assert await add.AsyncResult(sent.id).aget(timeout=0) == 3
        assert await sent.aget(timeout=0) == 3  # known
        with pytest.raises(CeleryTimeoutError):
            await add.AsyncResult("nobody's").aget(timeout=0)
        with pytest.raises(CeleryTimeoutError):
            await add.AsyncResult("nobody's").aget(timeout=0.05)

    run(main())


@pytest.mark.usefixtures("async_app")
def test_cancelled_waiter_leaves_nothing_behind(quiet_redis: RedisServer) -> None:
    async def main() -> None:
        with looking(quiet_redis) as redis:
            sent = [add.AsyncResult(f"nobody's-{number}") for number in range(50)]
            waiting = [asyncio.ensure_future(one.aget()) for one in sent]
            twice = asyncio.ensure_future(add.AsyncResult("nobody's-0").aget())
            await until(lambda: len(redis.pubsub_channels()) == 50)
            for waiter in waiting:
                waiter.cancel()
            await asyncio.wait(waiting)
            await until(lambda: len(redis.pubsub_channels()) == 1)
            twice.cancel()
            await until(lambda: redis.pubsub_channels() == [])
            # Who comes again right after is async_service as well.
            assert await (await add.adelay(1, 2)) == 3

    run(main())


@pytest.mark.usefixtures("async_app")
def test_many_wait_for_one_result() -> None:
    async def main() -> list[float]:
        sent = await nap.adelay(0.2)
        waiting = [nap.AsyncResult(sent.id).aget() for _ in range(20)]
        return await asyncio.gather(*waiting, sent.aget())

    assert run(main()) == [0.2] * 21


@pytest.mark.usefixtures("async_app")
def test_waiter_may_leave_at_once_and_come_again(
    quiet_redis: RedisServer, async_service: Deployment
) -> None:
    async def main() -> str:
        key = fresh_key()
        sent = await wait_for.adelay(key)
        with looking(quiet_redis, async_service.redis_db.result_db) as redis:
            for _ in range(3):
                leaving = asyncio.ensure_future(wait_for.AsyncResult(sent.id).aget())
                await asyncio.sleep(0)
                leaving.cancel()
            leaving = asyncio.ensure_future(wait_for.AsyncResult(sent.id).aget())
            await until(lambda: len(redis.pubsub_channels()) == 1)
            leaving.cancel()
            await asyncio.wait([leaving])
            redis.set(key, "set")
            return await sent

    assert run(main()) == "set"


def test_result_that_nobody_can_read_is_an_error_for_who_waits(
    async_app: AsyncCelery, quiet_redis: RedisServer, async_service: Deployment
) -> None:
    key = cast("Callable[[str], bytes]", async_app.backend.get_key_for_task)("broken")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    with quiet_redis.client(async_service.redis_db.result_db) as client:
        client.set(key, "no JSON")

        async def main() -> None:
            with pytest.raises(Exception, match=r"JSON|Expecting|unexpected"):
                await add.AsyncResult("broken").aget()

        run(main())


@pytest.mark.usefixtures("async_app")
def test_silent_connection_is_asked_whether_it_is_one(
    quiet_redis: RedisServer, async_service: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "_QUIET_SHARE", 0.005)

    async def main() -> list[object]:
        quiet = await (await nap.adelay(0.4))
        key = fresh_key()
        with looking(quiet_redis, async_service.redis_db.result_db) as redis:
            waiting = asyncio.ensure_future((await wait_for.adelay(key)).aget())
            await until(lambda: len(redis.pubsub_channels()) == 1)
            redis.client_pause(500)  # longer than it waits for an answer
            await asyncio.to_thread(redis.set, key, "set")
        return [quiet, await waiting]

    assert run(main()) == [0.4, "set"]


@pytest.mark.usefixtures("async_app")
def test_connection_on_which_nobody_waits_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "_LINGER_SECONDS", 0.05)

    async def main() -> list[int]:
        before = sockets()
        values = [await (await add.adelay(1, 2))]
        await until(lambda: sockets() == before + 2)
        values.append(await (await add.adelay(3, 4)))
        return values

    assert run(main()) == [3, 7]


# -- what is on the wire


@pytest.mark.parametrize("options", [{}, {"global_keyprefix": "mine:"}], ids=["plain", "prefix"])
def test_message_is_the_one_that_delay_sends(
    quiet_redis: RedisServer,
    mariadb_server: MariaDBServer,
    options: dict[str, str],
    clean_process: None,
) -> None:
    with (
        deploy(quiet_redis, mariadb_server) as deployment,
        client_app(deployment.environment) as app,
    ):
        app.conf.broker_transport_options = options
        app.set_current()
        call = add.options(
            priority=6, queue="other", headers={"x": "y"}, expires=60.0, time_limit=5.0
        )
        with looking(quiet_redis, deployment.redis_db.broker_db) as redis:
            call.delay(1, 2)
            add.delay(3, 4)
            by_delay = taken(redis)
            run(_send_both(call))
            by_adelay = taken(redis)

    assert by_adelay == by_delay
    assert len(by_delay) == 2
    assert all(key.startswith("mine:") for key, _ in by_delay) is bool(options)


async def _send_both(call: _Call) -> None:
    await call.adelay(1, 2)
    await add.adelay(3, 4)


class _Call(Protocol):
    async def adelay(self, a: int, b: int) -> TypedResult[int]: ...


def taken(redis: RedisCommands) -> list[tuple[str, str]]:
    """The messages in all lists, without what differs from one call to the next."""
    found: list[tuple[str, str]] = []
    for key in sorted(redis.keys()):
        if b"_kombu" in key:
            continue
        for raw in redis.lrange(key, 0, -1):
            message = json.loads(raw)
            for name in ("id", "root_id", "expires", "origin"):
                message["headers"].pop(name)
            for name in ("delivery_tag", "correlation_id", "reply_to"):
                message["properties"].pop(name)
            found.append((key.decode(), json.dumps(message, sort_keys=True)))
        redis.delete(key)
    return found
