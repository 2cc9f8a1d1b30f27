"""Redis cannot be reached when a program first needs it: an error soon, in one sentence."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest
from celery import shared_task
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.contracts import untyped
from tests.support.patience import patience
from tests.support.servers import RedisServer
from tests.support.servers.base import HOST, free_port
from tests.support.servers.redis import fresh_redis_db
from tomskit.celery import AsyncCelery, async_shared_task
from tomskit.redis.away import ServerAwayError


@async_shared_task
async def add(x: int, y: int) -> int:
    return x + y


@shared_task
def plain_add(x: int, y: int) -> int:
    return x + y


@pytest.fixture
def nowhere() -> str:
    """The address of a server that is not there."""
    return f"redis://:hush@{HOST}:{free_port()}"


@pytest.fixture
def app(nowhere: str) -> Iterator[AsyncCelery]:
    app = AsyncCelery("nowhere", broker=f"{nowhere}/0", backend=f"{nowhere}/1")
    yield app
    app.close()


@pytest.mark.parametrize("task", [add, plain_add], ids=["async", "plain"])
def test_sending_fails(app: AsyncCelery, caplog: pytest.LogCaptureFixture, task: object) -> None:
    with pytest.raises(OperationalError, match=r"connecting to 127\.0\.0\.1") as raised:
        untyped(task).delay(1, 2)

    assert isinstance(raised.value.__cause__, RedisConnectionError)
    # Celery retries 20 times to subscribe to the result of a task that it has not sent.
    assert "Retry (" not in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


@pytest.mark.parametrize("timeout", [None, 3600.0])
def test_waiting_fails(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture, timeout: float | None
) -> None:
    result = add.AsyncResult("any")

    with pytest.raises(ServerAwayError, match=r"Results .*@127\.0\.0\.1.* is away") as raised:
        result.get(timeout=timeout)

    assert isinstance(raised.value.__cause__, RedisConnectionError)
    assert "hush" not in str(raised.value)
    assert "Retry (" not in caplog.text
    assert "Cannot listen for results" in caplog.text


async def read_state(result: AsyncResult[int]) -> object:
    return await untyped(result).astate()


async def read_progress(result: AsyncResult[int]) -> object:
    return [one async for one in untyped(result).progress(dict[str, int])]


async def wait(result: AsyncResult[int]) -> object:
    return await untyped(result)


@pytest.mark.parametrize("read", [wait, read_state, read_progress])
def test_waiting_in_an_event_loop_fails_as_soon(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture, read: Callable[..., Awaitable[object]]
) -> None:
    # One retry a minute: what takes that policy for its own does not end within this test.
    app.backend.retry_policy = {"max_retries": 20, "interval_start": 60, "interval_step": 60}

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(
                ServerAwayError, match=r"Results .*@127\.0\.0\.1.* is away"
            ) as raised:
                await asyncio.wait_for(read(add.AsyncResult("any")), patience(30))
            assert isinstance(raised.value.__cause__, RedisConnectionError)
            assert "hush" not in str(raised.value)

    asyncio.run(main())

    assert len([one for one in caplog.messages if "while the result backend is away" in one]) == 1


def test_several_who_wait_in_an_event_loop_all_hear_of_it(app: AsyncCelery) -> None:
    async def main() -> list[object]:
        waiting = [wait(add.AsyncResult(name)) for name in ("a", "b", "b")]
        return [*await asyncio.gather(*waiting, return_exceptions=True)]

    errors = asyncio.run(main())

    assert [type(one) for one in errors] == [ServerAwayError] * 3
    assert len({id(one) for one in errors}) == 3


def test_waiting_fails_again(app: AsyncCelery) -> None:
    result = add.AsyncResult("any")

    for _ in range(2):
        with pytest.raises(ServerAwayError):
            result.get(timeout=3600.0)


def test_without_retries_there_are_none(app: AsyncCelery, caplog: pytest.LogCaptureFixture) -> None:
    app.conf.task_publish_retry = False

    with pytest.raises(ServerAwayError):
        add.AsyncResult("any").get()

    assert "retrying" not in caplog.text


def test_a_task_is_sent_where_only_the_results_are_away(
    redis_server: RedisServer, nowhere: str
) -> None:
    db = fresh_redis_db(redis_server)
    app = AsyncCelery("half", broker=db.broker_url, backend=f"{nowhere}/1")

    result = add.delay(1, 2)

    assert redis_server.client(db.broker_db).llen("celery") == 1
    with pytest.raises(ServerAwayError):
        result.get(timeout=3600.0)
    app.close()
