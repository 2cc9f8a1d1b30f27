"""Results are watched, revoked and forgotten in event loops, without blocking them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from celery.exceptions import TaskRevokedError

from tests.integration import results_service
from tests.integration.results_service import add, look_and_forget, quiet, wait_for
from tests.integration.typed_service import client as client_app
from tests.support.async_client import looking
from tests.support.deployment import Deployment, deploy
from tests.support.loops import run, ticks_while
from tests.support.patience import slowed
from tests.support.remote import fresh_key, release, until_it_hears
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery, TypedResult, group

MODULE = results_service.__name__


@pytest.fixture(scope="module", params=["prefork-redis", "asyncio-redis", "asyncio-database"])
def service(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    """A worker that stores results in Redis, or in a database."""
    pool: Pool
    pool, _, backend = request.param.partition("-")
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.environment["CELERY_RESULT_BACKEND_TYPE"] = backend
        fresh.running = fresh.worker(pool, 4, module=MODULE)
        until_it_hears(fresh)
        yield fresh


@pytest.fixture(scope="module", params=["threads", "asyncio"])
def replying(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    """A worker that sends results in messages, to the thread that has sent their tasks."""
    with deploy(redis_server, mariadb_server) as fresh:
        for name in [one for one in fresh.environment if one.startswith("CELERY_RESULT_BACKEND")]:
            del fresh.environment[name]
        fresh.environment["CELERY_RESULT_BACKEND"] = "rpc://"
        fresh.running = fresh.worker(request.param, 4, module=MODULE)
        until_it_hears(fresh)
        yield fresh


@pytest.fixture
def app(service: Deployment, clean_process: None) -> Iterator[AsyncCelery]:
    with client_app(service.environment) as made:
        made.set_current()
        yield made


async def until_started(result: TypedResult[object]) -> None:
    while await result.astate() != "STARTED":  # noqa: ASYNC110 (a server is asked)
        await asyncio.sleep(0.02)


@pytest.mark.usefixtures("app")
def test_state_is_seen_until_the_result_is_forgotten(service: Deployment) -> None:
    async def main() -> list[object]:
        key = fresh_key()
        sent = await wait_for.adelay(key)
        await until_started(sent)
        found: list[object] = [await sent.aready()]
        release(service, key)
        found += [await sent, await sent.astate(), await sent.aready()]
        await sent.aforget()
        return [*found, await sent.astate(), await wait_for.AsyncResult(sent.id).astate()]

    assert run(main()) == [False, "released", "SUCCESS", True, "PENDING", "PENDING"]


@pytest.mark.usefixtures("app")
def test_task_that_runs_is_ended() -> None:
    async def main() -> str:
        sent = await wait_for.adelay(fresh_key())
        await until_started(sent)
        await sent.arevoke(terminate=True)
        with pytest.raises(TaskRevokedError):
            await sent
        return await wait_for.AsyncResult(sent.id).astate()

    assert run(main()) == "REVOKED"


@pytest.mark.usefixtures("app")
def test_task_that_waits_never_runs() -> None:
    async def main() -> str:
        sent = await add.options(countdown=slowed(3)).adelay(1, 2)
        await sent.arevoke()
        with pytest.raises(TaskRevokedError):
            await sent
        return await sent.astate()

    assert run(main()) == "REVOKED"


@pytest.mark.usefixtures("app")
def test_group_is_watched_revoked_and_forgotten() -> None:
    async def main() -> list[object]:
        members = await group(wait_for.s(fresh_key()) for _ in range(3)).adelay()
        for member in members:
            await until_started(member)
        found: list[object] = [await members.aready()]
        await members.arevoke(terminate=True)
        errors = await members.aget(propagate=False)
        found += [type(error).__name__ for error in errors]
        found.append(await members.aready())
        await members.aforget()
        return [*found, await members.aready()]

    revoked = TaskRevokedError.__name__
    assert run(main()) == [False, revoked, revoked, revoked, True, False]


@pytest.mark.usefixtures("app")
def test_task_watches_and_ends_others() -> None:
    async def main() -> list[str]:
        done = await add.adelay(1, 2)
        await done
        running = await wait_for.adelay(fresh_key())
        await until_started(running)
        found = await (await look_and_forget.adelay(done.id, running.id))
        with pytest.raises(TaskRevokedError):
            await running
        return found

    assert run(main()) == ["SUCCESS", "STARTED", "PENDING"]


@pytest.mark.usefixtures("app")
def test_loop_goes_on_while_redis_hangs(service: Deployment) -> None:
    async def main() -> tuple[int, str]:
        sent = await add.adelay(1, 2)
        await sent
        other = add.AsyncResult(sent.id)
        with looking(service.redis) as redis:
            redis.client_pause(round(slowed(300)))
        ticks, _ = await ticks_while(other.arevoke())
        return ticks, await other.astate()

    ticks, state = run(main())

    # Were it held up, it would come round once; on a fast machine it does sixty times.
    assert ticks > 3
    assert state == "SUCCESS"


@pytest.mark.usefixtures("app")
def test_a_call_may_ask_for_the_result_of_a_task_that_ignores_it() -> None:
    async def main() -> list[object]:
        asked = await quiet.options(ignore_result=False).adelay(3)
        ignored = await quiet.adelay(4)
        failed = await quiet.adelay(-1)
        error = await of_id(failed).aget(propagate=False)
        return [await asked, await ignored, await ignored.astate(), type(error)]

    assert run(main()) == [3, None, "PENDING", LookupError]


def of_id(result: TypedResult[object]) -> TypedResult[object]:
    """The same, as one that knows nothing of its task, and so not that it ignores its result."""
    return TypedResult(result.id, app=result.app)


@pytest.mark.usefixtures("clean_process")
def test_results_that_come_in_messages_are_awaited(replying: Deployment) -> None:
    async def main() -> list[object]:
        several = [await add.adelay(number, number) for number in range(5)]
        together = await group(add.s(number, 1) for number in range(3)).adelay()
        found: list[object] = [await one for one in reversed(several)]
        asked = await quiet.options(ignore_result=False).adelay(3)
        return [*found, await together, await asked, await asyncio.gather(*map(again, several))]

    async def again(result: TypedResult[int]) -> int:
        return await result

    with client_app(replying.environment) as app:
        app.set_current()
        assert run(main()) == [8, 6, 4, 2, 0, [1, 2, 3], 3, [0, 2, 4, 6, 8]]
