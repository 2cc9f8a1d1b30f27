"""Tasks are sent and results awaited in event loops, without blocking them."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Never, Protocol, TypeVar, cast

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError
from kombu.exceptions import OperationalError
from redis import Redis

from tests.integration import async_client_service as service_module
from tests.integration.async_client_service import (
    add,
    forget,
    nap,
    refuse,
    send_from_a_task,
    total,
    wait_for,
)
from tests.integration.conftest import TIMEOUT, Deployment, deploy, eventually
from tests.integration.test_celery_features import fresh_key
from tests.integration.test_sentinel import sentinel_environment
from tests.integration.typed_service import client as client_app
from tests.support.patience import slowed
from tests.support.servers import (
    Certificates,
    MariaDBServer,
    RedisServer,
    SentinelCluster,
    TLSRedisServer,
)
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery, TypedResult, chain, chord, group
from tomskit.celery._client import subscriptions

T = TypeVar("T")

MODULE = service_module.__name__
MANY = 300
MANY_DATABASES = [("databases", "2000")]

pytestmark = pytest.mark.usefixtures("clean_process")


class _Redis(Protocol):
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
def looking(server: RedisServer, db: int = 0) -> Generator[_Redis]:
    with Redis(host=server.host, port=server.port, password=server.password, db=db) as redis:
        yield cast("_Redis", redis)


@contextmanager
def serve(
    server: RedisServer,
    mariadb: MariaDBServer,
    pool: Pool = "threads",
    **environment: str,
) -> Generator[Deployment]:
    with deploy(server, mariadb) as fresh:
        fresh.environment.update(environment)
        fresh.running = fresh.worker(pool, 4, module=MODULE)
        yield fresh


@pytest.fixture(scope="module")
def own() -> Iterator[RedisServer]:
    """A server of which nobody else asks anything."""
    with RedisServer(config=MANY_DATABASES) as server:
        yield server


@pytest.fixture(scope="module")
def served(own: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    with serve(own, mariadb_server) as deployment:
        yield deployment


@pytest.fixture
def app(served: Deployment, clean_process: None) -> Iterator[AsyncCelery]:
    with client_app(served.environment) as made:
        made.set_current()
        yield made


def run(coro: Coroutine[object, Never, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(TIMEOUT):
            return await coro

    return asyncio.run(limited())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (a server is asked)
        await asyncio.sleep(0.01)


async def ticks_while(awaitable: Awaitable[T]) -> tuple[int, T]:
    """How often the loop came round meanwhile, with 5 ms between."""
    waiting = asyncio.ensure_future(awaitable)
    ticks = 0
    while not waiting.done():
        await asyncio.sleep(0.005)
        ticks += 1
    return ticks, waiting.result()


# -- many at once


@pytest.mark.usefixtures("app")
def test_many_are_sent_and_awaited_at_once_on_three_connections(
    own: RedisServer, served: Deployment
) -> None:
    assert served.running is not None
    worker = served.running

    async def main() -> tuple[list[int], int]:
        before = sockets()
        # All are awaited before the first result is there, and the loop then does nothing before
        # the last one is. So how many commands there are does not depend on who is faster.
        worker.send_signal(signal.SIGSTOP)
        try:
            sent = await asyncio.gather(*(add.adelay(number, 1) for number in range(MANY)))
            waiting = asyncio.gather(*sent)
            with looking(own) as redis:
                await until(lambda: len(redis.pubsub_channels()) == MANY)
        finally:
            worker.send_signal(signal.SIGCONT)
        with looking(own, served.redis_db.result_db) as redis:
            keys = [f"celery-task-meta-{one.id}" for one in sent]
            eventually(lambda: all(b"SUCCESS" in (redis.get(key) or b"") for key in keys))
        return await waiting, sockets() - before

    with looking(own) as redis:
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


def sockets() -> int:
    """How many this process has open, without what other tests have left."""
    gc.collect()
    descriptors = Path("/proc/self/fd")
    return sum(
        name.startswith("socket:")
        for entry in descriptors.iterdir()
        if (name := _target(entry)) is not None
    )


def _target(link: Path) -> str | None:
    with suppress(OSError):  # that of the listing itself
        return str(link.readlink())
    return None


def calls(stats: dict[str, dict[str, int]], command: str) -> int:
    return stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]


@pytest.mark.usefixtures("app")
def test_loop_goes_on_while_redis_hangs(own: RedisServer) -> None:
    pause = round(slowed(300))

    async def main() -> tuple[int, int, int]:
        await add.adelay(1, 1)
        with looking(own) as redis:
            redis.client_pause(pause)
        sending, sent = await ticks_while(add.adelay(1, 2))
        with looking(own) as redis:
            redis.client_pause(pause)
        awaiting, value = await ticks_while(sent)
        return sending, awaiting, value

    sending, awaiting, value = run(main())

    # On a fast machine three times as many would fit in.
    assert sending > 20
    assert awaiting > 20
    assert value == 3


# -- what results and errors are


@pytest.mark.usefixtures("app")
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


@pytest.mark.usefixtures("app")
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


@pytest.mark.usefixtures("app")
def test_ignored_result_is_not_waited_for() -> None:
    async def main() -> None:
        await (await forget.options(ignore_result=True).adelay())

    run(main())


def test_group_that_was_sent_by_a_loop_is_read_by_get(app: AsyncCelery) -> None:
    sent = run(group(add.s(number, 1) for number in range(20)).adelay())

    assert sent.get(timeout=TIMEOUT, interval=0.01) == list(range(1, 21))


@pytest.mark.usefixtures("app")
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


@pytest.mark.usefixtures("app")
def test_cancelled_waiter_leaves_nothing_behind(own: RedisServer) -> None:
    async def main() -> None:
        with looking(own) as redis:
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
            # Who comes again right after is served as well.
            assert await (await add.adelay(1, 2)) == 3

    run(main())


@pytest.mark.usefixtures("app")
def test_many_wait_for_one_result() -> None:
    async def main() -> list[float]:
        sent = await nap.adelay(0.2)
        waiting = [nap.AsyncResult(sent.id).aget() for _ in range(20)]
        return await asyncio.gather(*waiting, sent.aget())

    assert run(main()) == [0.2] * 21


@pytest.mark.usefixtures("app")
def test_waiter_may_leave_at_once_and_come_again(own: RedisServer, served: Deployment) -> None:
    async def main() -> str:
        key = fresh_key()
        sent = await wait_for.adelay(key)
        with looking(own, served.redis_db.result_db) as redis:
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
    app: AsyncCelery, own: RedisServer, served: Deployment
) -> None:
    key = cast("Callable[[str], bytes]", app.backend.get_key_for_task)("broken")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    with own.client(served.redis_db.result_db) as client:
        client.set(key, "no JSON")

        async def main() -> None:
            with pytest.raises(Exception, match=r"JSON|Expecting|unexpected"):
                await add.AsyncResult("broken").aget()

        run(main())


@pytest.mark.usefixtures("app")
def test_silent_connection_is_asked_whether_it_is_one(
    own: RedisServer, served: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "_QUIET_SECONDS", 0.05)

    async def main() -> list[object]:
        quiet = await (await nap.adelay(0.4))
        key = fresh_key()
        with looking(own, served.redis_db.result_db) as redis:
            waiting = asyncio.ensure_future((await wait_for.adelay(key)).aget())
            await until(lambda: len(redis.pubsub_channels()) == 1)
            redis.client_pause(500)  # longer than it waits for an answer
            await asyncio.to_thread(redis.set, key, "set")
        return [quiet, await waiting]

    assert run(main()) == [0.4, "set"]


@pytest.mark.usefixtures("app")
def test_connection_on_which_nobody_waits_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "_LINGER_SECONDS", 0.05)

    async def main() -> list[int]:
        before = sockets()
        values = [await (await add.adelay(1, 2))]
        await until(lambda: sockets() == before + 2)
        values.append(await (await add.adelay(3, 4)))
        return values

    assert run(main()) == [3, 7]


# -- connections come and go


@pytest.mark.usefixtures("app")
def test_results_arrive_after_the_connection_was_lost(own: RedisServer, served: Deployment) -> None:
    async def main() -> list[str]:
        first, then = fresh_key(), fresh_key()
        with looking(own, served.redis_db.result_db) as redis:
            sent = [await wait_for.adelay(first) for _ in range(3)]
            waiting = asyncio.gather(*sent)
            await until(lambda: len(redis.pubsub_channels()) == 3)
            redis.client_kill_filter(_type="pubsub")
            redis.set(first, "set")
            values = await waiting
            # And one that is stored while nobody listens, as the loop does nothing meanwhile.
            late = await wait_for.adelay(then)
            awaiting = asyncio.ensure_future(late.aget())
            await until(lambda: len(redis.pubsub_channels()) == 1)
            redis.client_kill_filter(_type="pubsub")
            redis.set(then, "set late")
            eventually(lambda: b"SUCCESS" in (redis.get(f"celery-task-meta-{late.id}") or b""))
            return [*values, await awaiting]

    assert run(main()) == ["set", "set", "set", "set late"]


@pytest.mark.usefixtures("app")
def test_sending_goes_on_after_the_connection_was_lost(own: RedisServer) -> None:
    async def main() -> int:
        await add.adelay(0, 0)
        with looking(own) as redis:
            redis.client_kill_filter(_type="normal")
            return await (await add.adelay(1, 2))

    assert run(main()) == 3


def test_broker_that_is_away_is_tried_again_and_then_told_of() -> None:
    with RedisServer() as server:
        url = f"redis://{server.host}:{server.port}/0"
        app = AsyncCelery("away", broker=url, backend=url, set_as_current=False)
        app.set_current()
        pause = slowed(0.05)
        policy = {
            "max_retries": 3,
            "interval_start": pause,
            "interval_step": 0,
            "interval_max": pause,
        }

        async def main() -> None:
            await add.adelay(1, 1)
            server.stop()
            with pytest.raises(OperationalError):
                await add.options(retry=False).adelay(1, 1)
            with pytest.raises(OperationalError):
                await add.options(retry_policy=policy).adelay(1, 1)
            ticks, error = await ticks_while(
                asyncio.gather(
                    add.options(retry_policy=policy).adelay(1, 1), return_exceptions=True
                )
            )
            assert isinstance(error[0], OperationalError)
            assert ticks > 10
            patient = {**policy, "max_retries": None}
            sending = asyncio.ensure_future(add.options(retry_policy=patient).adelay(1, 1))
            await asyncio.sleep(0.1)
            assert not sending.done()
            server.start()
            sent = await sending
            with looking(server) as redis:
                [message] = redis.lrange(b"celery", 0, -1)
            assert json.loads(message)["properties"]["correlation_id"] == sent.id

        run(main())
        app.close()


def test_waiting_ends_with_an_error_when_redis_stays_away() -> None:
    with RedisServer() as server:
        url = f"redis://{server.host}:{server.port}/0"
        app = AsyncCelery("away", broker=url, backend=url, set_as_current=False)
        app.conf.result_backend_transport_options = {
            "retry_policy": {"max_retries": 2, "interval_start": 0.01, "interval_step": 0.01}
        }
        app.set_current()

        async def main() -> None:
            with looking(server) as redis:
                waiting = asyncio.ensure_future((await add.adelay(1, 1)).aget())
                await until(lambda: len(redis.pubsub_channels()) == 1)
            server.stop()
            with pytest.raises((ConnectionError, Exception), match=r"onnect"):
                await waiting

        run(main())
        app.close()


def test_next_url_of_the_broker_is_tried(own: RedisServer) -> None:
    with RedisServer() as away:
        dead = f"redis://{away.host}:{away.port}/0"
    alive = f"redis://{own.host}:{own.port}/1999"
    app = AsyncCelery("two", broker=f"{dead};{alive}", set_as_current=False)
    app.set_current()

    async def main() -> None:
        await asyncio.gather(*(add.adelay(1, 1) for _ in range(3)))

    with looking(own, 1999) as redis:
        run(main())

        assert len(redis.lrange(b"celery", 0, -1)) == 3
        redis.delete(b"celery")
    app.close()


# -- where it works


def test_each_loop_has_connections_of_its_own(app: AsyncCelery) -> None:
    values: list[int] = []

    async def main(number: int) -> int:
        return sum(await asyncio.gather(*[await add.adelay(number, 1) for _ in range(20)]))

    before = sockets()

    def work(number: int) -> None:
        values.append(run(main(number)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    # A thread has no current app of its own.
    app.set_default()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(values) == [20, 40, 60, 80]
    assert run(main(4)) == 100  # one loop after the other
    assert sockets() == before


@pytest.mark.usefixtures("app")
def test_forked_process_has_connections_of_its_own() -> None:
    async def main() -> int:
        value = await (await add.adelay(1, 2))
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_add_in_child)
        child.start()
        await asyncio.to_thread(child.join)
        assert child.exitcode == 0
        return value + await (await add.adelay(1, 2))

    assert run(main()) == 6


def _add_in_child() -> None:
    # The loop that the parent runs is not one that runs here.
    asyncio._set_running_loop(None)
    assert run(_added()) == 5


async def _added() -> int:
    return await (await add.adelay(2, 3))


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_task_sends_as_well(own: RedisServer, mariadb_server: MariaDBServer, pool: Pool) -> None:
    with (
        serve(own, mariadb_server, pool) as deployment,
        client_app(deployment.environment) as made,
    ):
        made.set_current()

        async def main() -> list[int]:
            ids = await (await send_from_a_task.adelay(20))
            return await asyncio.gather(*(add.AsyncResult(one) for one in ids))

        assert run(main()) == [*range(1, 21), *range(1, 21)]


def test_without_the_fast_path_it_is_done_in_threads(
    own: RedisServer, mariadb_server: MariaDBServer
) -> None:
    with (
        serve(own, mariadb_server, CELERY_REDIS_FAST_PATH="false") as deployment,
        client_app(deployment.environment) as made,
    ):
        made.set_current()

        async def main() -> list[int]:
            sent = await asyncio.gather(*(add.adelay(number, 1) for number in range(20)))
            assert await (await group(add.s(1, 1), add.s(2, 2)).adelay()) == [2, 4]
            return await asyncio.gather(*sent)

        assert run(main()) == list(range(1, 21))
        assert any(thread.name.startswith("tomskit-client") for thread in threading.enumerate())


def test_producer_that_the_caller_brings_is_used(app: AsyncCelery) -> None:
    async def main() -> int:
        with app.connection_for_write() as connection:
            producer = app.amqp.Producer(connection)
            return await (await add.options(producer=producer).adelay(1, 2))

    assert run(main()) == 3


def test_eager_task_runs_in_a_thread() -> None:
    pause = slowed(0.1)
    app = AsyncCelery("eager", broker="redis://localhost:1/0", set_as_current=False)
    app.conf.task_always_eager = True
    app.set_current()

    async def main() -> float:
        ticks, sent = await ticks_while(nap.adelay(pause))
        assert ticks > 5
        return await sent

    assert run(main()) == pause
    app.close()


def test_through_sentinels(deployment: Deployment, sentinel_cluster: SentinelCluster) -> None:
    deployment.environment.update(sentinel_environment(sentinel_cluster))
    deployment.worker("threads", 2, module=MODULE)
    with client_app(deployment.environment) as made:
        made.set_current()

        async def main() -> list[int]:
            sent = await asyncio.gather(*(add.adelay(number, 1) for number in range(20)))
            return await asyncio.gather(*sent)

        assert run(main()) == list(range(1, 21))


def test_over_tls(tmp_path_factory: pytest.TempPathFactory, mariadb_server: MariaDBServer) -> None:
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    with TLSRedisServer(certificates, password="p w+x%", config=MANY_DATABASES) as server:
        settings = {
            "USE_SSL": "true",
            "SSL_CA_CERTS": certificates.certificate("ca"),
            "PASSWORD": "p w+x%",
        }
        environment = {
            f"{role}_REDIS_{name}": value
            for role in ("CELERY_BROKER", "CELERY_RESULT_BACKEND", "CELERY_WORKER")
            for name, value in settings.items()
        }
        with (
            serve(server, mariadb_server, "threads", **environment) as deployment,
            client_app(deployment.environment) as made,
        ):
            made.set_current()

            async def main() -> list[int]:
                sent = await asyncio.gather(*(add.adelay(number, 1) for number in range(20)))
                return await asyncio.gather(*sent)

            assert run(main()) == list(range(1, 21))


# -- what is on the wire


@pytest.mark.parametrize("options", [{}, {"global_keyprefix": "mine:"}], ids=["plain", "prefix"])
def test_message_is_the_one_that_delay_sends(
    own: RedisServer, mariadb_server: MariaDBServer, options: dict[str, str], clean_process: None
) -> None:
    with deploy(own, mariadb_server) as deployment, client_app(deployment.environment) as app:
        app.conf.broker_transport_options = options
        app.set_current()
        call = add.options(
            priority=6, queue="other", headers={"x": "y"}, expires=60.0, time_limit=5.0
        )
        with looking(own, deployment.redis_db.broker_db) as redis:
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


def taken(redis: _Redis) -> list[tuple[str, str]]:
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
