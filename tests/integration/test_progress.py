"""Tasks report how far they are, and who reads that loses nothing that matters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from datetime import date
from functools import partial
from typing import Protocol, TypedDict, cast

import pytest
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError

from tests.integration import results_service
from tests.integration.results_service import (
    Counts,
    Progress,
    Step,
    add,
    hurry,
    leave_a_child,
    report_and_fail,
    report_and_retry,
    report_from_children,
    report_kinds,
    report_to_nobody,
    report_until,
    report_what_is_none,
    step_by_step,
    storing,
    wait_for,
)
from tests.integration.typed_service import client as client_app
from tests.support.async_client import looking
from tests.support.contracts import untyped
from tests.support.deployment import TIMEOUT, Deployment, deploy, eventually
from tests.support.loops import run, sockets, until
from tests.support.patience import patience
from tests.support.remote import fresh_key, release, until_it_hears
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery, chain
from tomskit.errors import TaskResultError

MODULE = results_service.__name__


@contextmanager
def serving(
    redis: RedisServer, mariadb: MariaDBServer, pool: Pool, backend: str = "redis"
) -> Generator[Deployment]:
    with deploy(redis, mariadb) as fresh:
        fresh.environment["CELERY_RESULT_BACKEND_TYPE"] = backend
        if backend == "database":
            fresh.use_database_for_results()
        fresh.running = fresh.worker(pool, 4, module=MODULE)
        until_it_hears(fresh)
        yield fresh


@pytest.fixture(
    scope="module",
    params=[
        "prefork-redis",
        "asyncio-redis",
        "prefork-database",
        "asyncio-database",
    ],
)
def service(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    pool: Pool
    pool, _, backend = request.param.partition("-")
    with serving(redis_server, mariadb_server, pool, backend) as fresh:
        yield fresh


@pytest.fixture
def app(service: Deployment, clean_process: None) -> Iterator[AsyncCelery]:
    with client_app(service.environment) as made:
        made.set_current()
        yield made


class PubSub(Protocol):
    """redis-py's, as far as it is used here."""

    def subscribe(self, channel: str) -> None: ...
    def get_message(self, *, timeout: float) -> dict[str, str] | None: ...


class Stored(TypedDict):
    """What is stored of a task."""

    status: str
    result: dict[str, int]


def messages(heard: PubSub) -> Iterator[Stored]:
    while (message := heard.get_message(timeout=1)) is not None:
        if message["type"] == "message":
            yield json.loads(message["data"])


async def done(reports: AsyncGenerator[Progress]) -> int:
    return (await anext(reports)).done


async def follow(service: Deployment) -> list[int]:
    keys = [fresh_key() for _ in range(3)]
    sent = await step_by_step.adelay(keys)
    seen: list[int] = []
    async for progress in sent.progress(Progress):
        assert progress.total == 3
        seen.append(progress.done)
        release(service, keys[progress.done])
    return [*seen, await sent]


@pytest.mark.usefixtures("app")
def test_reports_arrive_while_the_task_runs(service: Deployment) -> None:
    assert run(follow(service)) == [0, 1, 2, 3]


@pytest.mark.usefixtures("clean_process")
def test_nothing_of_a_report_is_left_when_its_task_is_ended(deployment: Deployment) -> None:
    deployment.worker("asyncio", 4, module=MODULE)
    with client_app(deployment.environment) as app:
        app.set_current()

        async def main() -> None:
            sent = await report_until.adelay(fresh_key())
            async for progress in sent.progress(Progress):
                if progress.done > 5:
                    assert await (await storing.adelay()) == 1
                    await sent.arevoke(terminate=True)
            with pytest.raises(TaskRevokedError):
                await sent
            while await (await storing.adelay()):  # noqa: ASYNC110 (a worker is asked)
                await asyncio.sleep(0.05)
            assert await report_until.AsyncResult(sent.id).astate() == "REVOKED"

        run(main())


@pytest.mark.parametrize("pool", ["solo", "threads"])
@pytest.mark.usefixtures("clean_process")
def test_reports_arrive_from_other_pools(deployment: Deployment, pool: Pool) -> None:
    deployment.worker(pool, 4, module=MODULE)
    with client_app(deployment.environment) as app:
        app.set_current()
        assert run(follow(deployment)) == [0, 1, 2, 3]


@pytest.mark.usefixtures("app")
def test_late_reader_begins_with_the_newest(service: Deployment) -> None:
    async def main() -> list[int]:
        keys = [fresh_key() for _ in range(3)]
        release(service, keys[0])
        sent = await step_by_step.adelay(keys)
        first, second = (
            sent.progress(Progress),
            step_by_step.AsyncResult(sent.id).progress(Progress),
        )
        while await done(first) != 1:
            pass
        # Somebody else reads it already, on the same connection.
        seen = [await done(second)]
        release(service, keys[1])
        seen += [await done(first), await done(second)]
        release(service, keys[2])
        seen += [progress.done async for progress in first]
        seen += [progress.done async for progress in second]
        seen += [progress.done async for progress in sent.progress(Progress)]
        return [*seen, await sent]

    assert run(main()) == [1, 2, 2, 3]


@pytest.mark.usefixtures("app")
def test_reports_are_of_the_type_that_they_are_read_as(service: Deployment) -> None:
    async def main() -> list[object]:
        key = fresh_key()
        sent = await report_kinds.adelay(key)
        async with aclosing(sent.progress(Step)) as steps:
            seen: list[object] = [await anext(steps)]
            release(service, f"{key}-step")
            with pytest.raises(TaskResultError, match=r"report_kinds: its progress\.name is"):
                await anext(steps)
        async for counts in sent.progress(Counts):
            seen.append(counts)
            release(service, f"{key}-counts")
        return seen

    assert run(main()) == [
        Step("first", date(2027, 1, 1)),
        {"rows": 3, "days": [date(2027, 1, 2)]},
    ]


@pytest.mark.usefixtures("app")
def test_reading_ends_when_the_task_fails(service: Deployment) -> None:
    async def main() -> list[int]:
        key = fresh_key()
        sent = await report_and_fail.adelay(key)
        seen: list[int] = []
        async for progress in sent.progress(Progress):
            seen.append(progress.done)
            release(service, key)
        with pytest.raises(LookupError, match="in vain"):
            await sent
        assert await report_and_fail.AsyncResult(sent.id).astate() == "FAILURE"
        return seen

    # By polling one may see the failure only.
    assert run(main()) in ([1, 2], [1])


@pytest.mark.usefixtures("app")
def test_reading_ends_when_the_task_is_revoked() -> None:
    async def main() -> list[int]:
        sent = await step_by_step.adelay([fresh_key()])
        seen: list[int] = []
        async for progress in sent.progress(Progress):
            seen.append(progress.done)
            await sent.arevoke(terminate=True)
        with pytest.raises(TaskRevokedError):
            await sent
        assert await step_by_step.AsyncResult(sent.id).astate() == "REVOKED"
        return seen

    assert run(main()) == [0]


@pytest.mark.usefixtures("app")
def test_reading_goes_on_when_the_task_is_retried(service: Deployment) -> None:
    async def main() -> list[int]:
        key = fresh_key()
        sent = await report_and_retry.adelay(key)
        seen: list[int] = []
        async for progress in sent.progress(Progress):
            seen.append(progress.done)
            release(service, f"{key}-{progress.done}")
        return [*seen, await sent]

    assert run(main()) == [0, 1, 1]


@pytest.mark.usefixtures("app")
def test_reading_ends_when_a_task_before_it_in_the_chain_fails(service: Deployment) -> None:
    async def main() -> list[Progress]:
        key = fresh_key()
        release(service, key)
        sent = await chain(report_and_fail.si(key), hurry.si(3)).adelay()
        seen = [progress async for progress in sent.progress(Progress)]
        with pytest.raises(LookupError, match="in vain"):
            await sent
        return seen

    assert run(main()) == []


@pytest.mark.usefixtures("app")
def test_children_and_threads_report_for_their_task(service: Deployment) -> None:
    async def main() -> list[int]:
        key = fresh_key()
        sent = await report_from_children.adelay(key)
        seen: list[int] = []
        async for progress in sent.progress(Progress):
            seen.append(progress.done)
            release(service, f"{key}-{'child' if progress.done == 1 else 'thread'}")
        await sent
        return seen

    assert run(main()) == [1, 2]


@pytest.mark.usefixtures("app")
def test_reading_has_a_timeout() -> None:
    async def main() -> list[int]:
        sent = await step_by_step.adelay([fresh_key()])
        reports = sent.progress(Progress)
        seen = [await done(reports)]
        limited = sent.progress(Progress, timeout=patience(0.5))
        seen.append(await done(limited))
        with pytest.raises(CeleryTimeoutError):
            await anext(limited)
        await reports.aclose()
        await sent.arevoke(terminate=True)
        return seen

    assert run(main()) == [0, 0]


def test_any_client_sees_state_and_info(service: Deployment) -> None:
    key = fresh_key()
    sent = service.send(step_by_step.name, [key])

    eventually(lambda: str(sent.state) == "PROGRESS")

    assert sent.info == {"done": 0, "total": 1}
    release(service, key)
    assert sent.get(timeout=TIMEOUT) == 1
    assert sent.state == "SUCCESS"


def test_only_some_reports_are_stored_and_the_last_one_before_the_result(
    service: Deployment,
) -> None:
    if service.environment["CELERY_RESULT_BACKEND_TYPE"] != "redis":
        pytest.skip("Redis publishes what is stored")
    task_id = fresh_key()
    with service.redis.client(service.redis_db.result_db) as client:
        heard = cast("PubSub", untyped(client).pubsub())
        heard.subscribe(f"celery-task-meta-{task_id}")
        sent = service.send(hurry.name, 1000, task_id=task_id)
        assert sent.get(timeout=TIMEOUT) == 1000
        stored = [*messages(heard)]

    assert [meta["status"] for meta in stored][-2:] == ["PROGRESS", "SUCCESS"]
    assert stored[-2]["result"] == {"done": 1000, "total": 1000}
    reports = [meta["result"]["done"] for meta in stored if meta["status"] == "PROGRESS"]
    assert reports == sorted(reports)
    assert len(reports) < 5 * patience(10)


@pytest.mark.usefixtures("app")
def test_what_a_task_leaves_running_cannot_report(service: Deployment) -> None:
    async def main() -> str:
        key = fresh_key()
        sent = await leave_a_child.adelay(key)
        await sent
        release(service, key)
        await asyncio.to_thread(service.wait_for_line, f"too late for {key}")
        return await leave_a_child.AsyncResult(sent.id).astate()

    assert run(main()) == "SUCCESS"


@pytest.mark.usefixtures("app")
def test_reports_that_nobody_can_read_are_named_in_the_log_once(service: Deployment) -> None:
    async def main() -> list[str]:
        sent = [await report_to_nobody.adelay() for _ in range(3)]
        for one in sent:
            assert [progress async for progress in one.progress(Progress)] == []
        await asyncio.to_thread(service.wait_for_line, "reports progress that nobody can read")
        await (await add.adelay(1, 2))
        return [await report_to_nobody.AsyncResult(one.id).astate() for one in sent]

    assert run(main()) == ["PENDING"] * 3
    processes = 4 if "prefork" in service.log else 1
    assert service.log.count("reports progress that nobody can read") <= processes


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("number", "TaskResultError: {name}: its progress is 3 (int), which has no fields"),
        ("class", "TaskResultError: {name}: its progress is <class"),
        ("socket", "TaskResultError: {name}: its progress is {{'socket': <object object"),
        ("changed", "TaskResultError: {name}: its progress.done is 'one' (str), not"),
    ],
    ids=["number", "class", "socket", "changed"],
)
def test_what_is_no_progress_is_an_error_in_the_task(kind: str, error: str) -> None:
    async def main() -> str:
        return await (await report_what_is_none.adelay(kind))

    found = run(main())

    assert found.startswith(error.format(name=report_what_is_none.name)), found


def test_plain_task_is_told_what_to_use(service: Deployment) -> None:
    found = str(service.call(f"{MODULE}.report_by_runtime"))

    assert "report_by_runtime, which is not an async task" in found
    assert "self.update_state(" in found


def store(deployment: Deployment, ids: list[str], meta: Mapping[str, object]) -> None:
    """Store a state of many tasks, as a worker does."""
    with deployment.redis.client(deployment.redis_db.result_db) as client:
        for one in ids:
            key, value = f"celery-task-meta-{one}", json.dumps({**meta, "task_id": one})
            client.set(key, value)
            untyped(client).publish(key, value)


def test_many_are_read_on_one_connection(
    quiet_redis: RedisServer, mariadb_server: MariaDBServer, clean_process: None
) -> None:
    many = 300

    async def read(result_id: str, told: list[int]) -> None:
        async for progress in wait_for.AsyncResult(result_id).progress(Progress):
            told.append(progress.done)  # noqa: PERF401 (it is looked at meanwhile)

    ids = [fresh_key() for _ in range(many)]
    seen: dict[str, list[int]] = {one: [] for one in ids}

    def have_seen(number: int) -> bool:
        return all(one[-1:] == [number] for one in seen.values())

    with deploy(quiet_redis, mariadb_server) as fresh, client_app(fresh.environment) as app:
        app.set_current()

        async def main() -> None:
            before = sockets()
            with looking(quiet_redis) as redis:
                reading = asyncio.gather(*map(read, ids, seen.values()))
                await until(lambda: len(redis.pubsub_channels()) == many)
                for number in range(2):
                    report = {"status": "PROGRESS", "result": {"done": number, "total": 2}}
                    store(fresh, ids, report)
                    # What follows at once may take its place.
                    await until(partial(have_seen, number))
                store(fresh, ids, {"status": "SUCCESS", "result": "set", "children": []})
                await reading
                # To listen, and to read what was there already; the rest is that of the test.
                assert sockets() - before <= 2 + 2
                await until(lambda: redis.pubsub_channels() == [])

        run(main())

    assert all(one[-1] == 1 and one == sorted(one) for one in seen.values())
