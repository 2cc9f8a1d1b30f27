"""Where the client for event loops works: its connections come and go, and are of any kind."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import threading

import pytest
from kombu.exceptions import OperationalError
from typing_extensions import override

from tests.integration.async_client_service import (
    add,
    nap,
    send_from_a_task,
    wait_for,
)
from tests.integration.typed_service import client as client_app
from tests.support.async_client import MANY_DATABASES, MODULE, looking, serve
from tests.support.deployment import Deployment, eventually, sentinel_environment
from tests.support.loops import run, sockets, ticks_while, until
from tests.support.patience import patience, slowed
from tests.support.remote import fresh_key
from tests.support.servers import (
    Certificates,
    MariaDBServer,
    RedisServer,
    SentinelCluster,
    TLSRedisServer,
)
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery, group

pytestmark = pytest.mark.usefixtures("clean_process")

# -- connections come and go


@pytest.mark.usefixtures("async_app")
def test_results_arrive_after_the_connection_was_lost(
    quiet_redis: RedisServer, async_service: Deployment
) -> None:
    async def main() -> list[str]:
        first, then = fresh_key(), fresh_key()
        with looking(quiet_redis, async_service.redis_db.result_db) as redis:
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


@pytest.mark.usefixtures("async_app")
def test_sending_goes_on_after_the_connection_was_lost(quiet_redis: RedisServer) -> None:
    async def main() -> int:
        await add.adelay(0, 0)
        with looking(quiet_redis) as redis:
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
            assert ticks > 3
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


def test_next_url_of_the_broker_is_tried(quiet_redis: RedisServer) -> None:
    with RedisServer() as away:
        dead = f"redis://{away.host}:{away.port}/0"
    alive = f"redis://{quiet_redis.host}:{quiet_redis.port}/1999"
    app = AsyncCelery("two", broker=f"{dead};{alive}", set_as_current=False)
    app.set_current()

    async def main() -> None:
        await asyncio.gather(*(add.adelay(1, 1) for _ in range(3)))

    with looking(quiet_redis, 1999) as redis:
        run(main())

        assert len(redis.lrange(b"celery", 0, -1)) == 3
        redis.delete(b"celery")
    app.close()


# -- where it works


def test_each_loop_has_connections_of_its_own(async_app: AsyncCelery) -> None:
    values: list[int] = []

    async def main(number: int) -> int:
        return sum(await asyncio.gather(*[await add.adelay(number, 1) for _ in range(20)]))

    before = sockets()

    def work(number: int) -> None:
        values.append(run(main(number)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    # A thread has no current app of its quiet_redis.
    async_app.set_default()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(values) == [20, 40, 60, 80]
    assert run(main(4)) == 100  # one loop after the other
    assert sockets() == before


def test_loop_may_begin_while_another_one_begins(async_app: AsyncCelery) -> None:
    async_app.set_default()
    looked, done = threading.Event(), threading.Event()
    values: list[int] = []

    class Interrupting(asyncio.SelectorEventLoop):
        """While the client of another thread looks whether it is closed, a third loop sends."""

        @override
        def is_closed(self) -> bool:
            if threading.current_thread() is second and not looked.is_set():
                third.start()
                assert looked.wait(patience(30))
            return super().is_closed()

    async def send(number: int) -> None:
        values.append(await (await add.adelay(number, 1)))

    async def send_and_stay() -> None:
        await send(3)
        looked.set()
        await asyncio.to_thread(done.wait, patience(30))

    def send_second() -> None:
        try:
            run(send(2))
        finally:
            done.set()

    second = threading.Thread(target=send_second)
    third = threading.Thread(target=lambda: run(send_and_stay()))
    with asyncio.Runner(loop_factory=Interrupting) as runner:
        runner.run(send(1))
        second.start()
        second.join()
    third.join()

    assert sorted(values) == [2, 3, 4]


@pytest.mark.usefixtures("async_app")
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
def test_task_sends_as_well(
    quiet_redis: RedisServer, mariadb_server: MariaDBServer, pool: Pool
) -> None:
    with (
        serve(quiet_redis, mariadb_server, pool) as deployment,
        client_app(deployment.environment) as made,
    ):
        made.set_current()

        async def main() -> list[int]:
            ids = await (await send_from_a_task.adelay(20))
            return await asyncio.gather(*(add.AsyncResult(one) for one in ids))

        assert run(main()) == [*range(1, 21), *range(1, 21)]


def test_without_the_fast_path_it_is_done_in_threads(
    quiet_redis: RedisServer, mariadb_server: MariaDBServer
) -> None:
    with (
        serve(quiet_redis, mariadb_server, CELERY_REDIS_FAST_PATH="false") as deployment,
        client_app(deployment.environment) as made,
    ):
        made.set_current()

        async def main() -> list[int]:
            sent = await asyncio.gather(*(add.adelay(number, 1) for number in range(20)))
            assert await (await group(add.s(1, 1), add.s(2, 2)).adelay()) == [2, 4]
            return await asyncio.gather(*sent)

        assert run(main()) == list(range(1, 21))
        assert any(thread.name.startswith("tomskit-client") for thread in threading.enumerate())


def test_producer_that_the_caller_brings_is_used(async_app: AsyncCelery) -> None:
    async def main() -> int:
        with async_app.connection_for_write() as connection:
            producer = async_app.amqp.Producer(connection)
            return await (await add.options(producer=producer).adelay(1, 2))

    assert run(main()) == 3


def test_eager_task_runs_in_a_thread() -> None:
    pause = slowed(0.1)
    app = AsyncCelery("eager", broker="redis://localhost:1/0", set_as_current=False)
    app.conf.task_always_eager = True
    app.set_current()

    async def main() -> float:
        ticks, sent = await ticks_while(nap.adelay(pause))
        assert ticks > 3
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
