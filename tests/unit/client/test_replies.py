"""Results that come in messages: what a task says last is what is found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from queue import Empty, Queue
from typing import Any

import pytest
from kombu.transport.memory import Channel
from typing_extensions import override

from tests.support.contracts import untyped
from tests.support.replies import say
from tomskit.celery import AsyncCelery, async_shared_task


@async_shared_task
async def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def client() -> Iterator[AsyncCelery]:
    app = AsyncCelery("client", broker="memory://", backend="rpc://")
    yield app
    app.close()


class _Watched(Queue[Any]):
    """The queue of the client's results, which calls something once, when all has been read."""

    def __init__(self) -> None:
        super().__init__()
        self.when_read: Callable[[], None] | None = None

    @override
    def get(self, block: bool = True, timeout: float | None = None) -> object:
        try:
            return super().get(block, timeout)
        except Empty:
            if self.when_read is not None:
                call, self.when_read = self.when_read, None
                call()
            raise


def queue_of(client: AsyncCelery) -> _Watched:
    return untyped(Channel).queues.setdefault(untyped(client.backend).oid, _Watched())  # type: ignore[no-any-return]


def test_end_that_comes_while_an_earlier_state_is_read_is_found(client: AsyncCelery) -> None:
    queue = queue_of(client)
    result = double.delay(2)
    say(result, "STARTED")
    queue.when_read = lambda: say(result, "SUCCESS", 4)

    assert asyncio.run(result.aget(timeout=60)) == 4


def test_end_that_comes_while_another_task_is_looked_for_is_found(client: AsyncCelery) -> None:
    queue = queue_of(client)
    first, second = double.delay(1), double.delay(2)
    say(first, "STARTED")
    say(second, "STARTED")

    def end() -> None:
        say(second, "SUCCESS", 4)
        say(first, "SUCCESS", 2)

    queue.when_read = end

    assert [asyncio.run(one.aget(timeout=60)) for one in (first, second)] == [2, 4]


def test_a_state_is_seen_until_the_next_one_comes(client: AsyncCelery) -> None:
    result, other = double.delay(1), double.delay(2)
    seen = [result.state]
    say(result, "STARTED")
    seen += [other.state, result.state, result.state]
    say(result, "RETRY", ValueError("again"))
    seen += [result.state, other.state, result.state]
    say(result, "SUCCESS", 2)
    seen += [other.state, result.state]

    assert seen == [
        *("PENDING", "PENDING", "STARTED", "STARTED"),
        *("RETRY", "PENDING", "RETRY"),
        *("PENDING", "SUCCESS"),
    ]
    assert result.get() == 2


def test_more_states_than_are_read_at_once_are_read(client: AsyncCelery) -> None:
    several = [double.delay(number) for number in range(600)]
    for number, result in enumerate(several):
        say(result, "STARTED")
        say(result, "SUCCESS", 2 * number)

    assert asyncio.run(several[-1].aget(timeout=60)) == 1198
    assert asyncio.run(several[0].aget(timeout=60)) == 0


def test_failure_is_raised_for_all_who_ask(client: AsyncCelery) -> None:
    result = double.delay(1)
    say(result, "FAILURE", LookupError("not here"))

    again = client.AsyncResult(result.id)
    for one in (result, again, again):
        with pytest.raises(LookupError, match="not here"):
            asyncio.run(one.aget(timeout=60))
    result.forget()
    assert client.AsyncResult(result.id).state == "PENDING"
