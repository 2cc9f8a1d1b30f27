"""AsyncClient: sending and waiting in event loops, with brokers and results that are not Redis."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from tests.support.settings import MakeApp
from tomskit.celery import AsyncCelery
from tomskit.celery._client.client import AsyncClient, send, send_call, subscriptions_of


@pytest.fixture
def app(make_app: MakeApp) -> AsyncCelery:
    return make_app(broker="memory://", backend="cache+memory://")


@pytest.fixture
def redis_app(make_app: MakeApp) -> AsyncCelery:
    """Of a Redis that nothing here connects to."""
    return make_app(broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1")


@pytest.fixture
def plain() -> Iterator[Celery]:
    app = Celery("plain", set_as_current=False, broker="memory://", backend="cache+memory://")
    yield app
    app.close()


def client_of(app: AsyncCelery) -> AsyncClient:
    client = app.async_client
    assert isinstance(client, AsyncClient)
    return client


class Call:
    """Raises errors, one a call, and answers in which thread it is called then."""

    def __init__(self, *errors: Exception) -> None:
        self.times = 0
        self._errors = list(errors)

    def __call__(self) -> int:
        self.times += 1
        if self._errors:
            raise self._errors.pop(0)
        return threading.get_ident()


# -- what is possible in the loop


def test_messages_to_redis_are_published_in_the_loop(redis_app: AsyncCelery) -> None:
    assert client_of(redis_app).publishes


def test_messages_to_another_broker_are_not(app: AsyncCelery) -> None:
    assert not client_of(app).publishes


def test_eager_tasks_are_not_published_in_the_loop(redis_app: AsyncCelery) -> None:
    client = client_of(redis_app)
    found: list[bool] = []

    for eager in (False, True, False):
        redis_app.conf.task_always_eager = eager
        found.append(client.publishes)

    assert found == [True, False, True]


def test_threads_that_ask_at_the_same_time_know_that_tasks_are_eager(
    redis_app: AsyncCelery,
) -> None:
    client = client_of(redis_app)
    found: list[bool] = []

    class Eager:
        """Another thread asks in the middle."""

        def __bool__(self) -> bool:
            if threading.current_thread() is not other:
                other.start()
                other.join()
            return True

    other = threading.Thread(target=lambda: found.append(client.publishes))
    redis_app.conf.task_always_eager = Eager()
    found.append(client.publishes)

    assert found == [False, False]


def test_results_in_redis_are_subscribed_to(redis_app: AsyncCelery) -> None:
    client = client_of(redis_app)

    assert client.subscribes_to(redis_app.backend)
    # Another thread has another object for it.
    elsewhere: list[object] = []
    thread = threading.Thread(target=lambda: elsewhere.append(redis_app.backend))
    thread.start()
    thread.join()
    assert client.subscribes_to(elsewhere[0])


def test_results_elsewhere_are_not(
    app: AsyncCelery, redis_app: AsyncCelery, make_app: MakeApp
) -> None:
    other = make_app(broker="memory://", backend="redis://127.0.0.1:1/2")

    assert not client_of(app).subscribes_to(app.backend)
    assert not client_of(redis_app).subscribes_to(app.backend)
    assert not client_of(redis_app).subscribes_to(other.backend)


def test_of_results_elsewhere_there_are_no_subscriptions(app: AsyncCelery, plain: Celery) -> None:
    async def main() -> list[object]:
        return [await subscriptions_of(AsyncResult("id", app=one)) for one in (app, plain)]

    assert asyncio.run(main()) == [None, None]


def test_each_loop_has_its_own_subscriptions(redis_app: AsyncCelery) -> None:
    async def find() -> list[object]:
        result: AsyncResult[Any] = AsyncResult("id", app=redis_app)
        return [await subscriptions_of(result) for _ in range(2)]

    first, second = asyncio.run(find()), asyncio.run(find())

    assert first[0] is first[1] is not None
    assert second[0] is second[1] is not None
    assert first[0] is not second[0]


# -- sending


def test_what_cannot_be_sent_in_the_loop_is_sent_in_a_thread(
    app: AsyncCelery, plain: Celery
) -> None:
    for one in (app, plain):
        assert asyncio.run(send(one, Call())) != threading.get_ident()


def test_what_can_be_sent_in_the_loop_is(redis_app: AsyncCelery) -> None:
    assert asyncio.run(send(redis_app, Call())) == threading.get_ident()


def test_what_blocks_is_sent_in_a_thread(redis_app: AsyncCelery) -> None:
    sent = client_of(redis_app).send(Call(), blocks=True)

    assert asyncio.run(sent) != threading.get_ident()


def test_a_call_without_options_is_sent_in_a_thread(app: AsyncCelery, plain: Celery) -> None:
    async def main(task: Any) -> int:
        return await send_call(task, Call(), lambda: ((), {}))

    for one in (app, plain):
        task = one.task(name="work")(_work)
        assert asyncio.run(main(task)) != threading.get_ident()


def _work() -> None:
    pytest.fail("it is only sent")


def test_an_impatient_one_gets_the_error_at_once(app: AsyncCelery) -> None:
    call = Call(OperationalError("away"))

    with pytest.raises(OperationalError):
        asyncio.run(client_of(app).send(call))

    assert call.times == 1


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomskit.celery._client.retrying._FIRST_PAUSE", 0.0)


@pytest.mark.usefixtures("no_pauses")
def test_a_patient_one_waits_until_the_broker_is_back(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture
) -> None:
    call = Call(OperationalError("away"), OperationalError("still"))

    asyncio.run(client_of(app).send(call, patient=True))

    assert call.times == 3
    assert "Cannot publish a task; retrying while the broker is away" in caplog.text


@pytest.mark.usefixtures("no_pauses")
def test_patience_is_for_a_broker_that_is_away(app: AsyncCelery) -> None:
    call = Call(LookupError("x"))

    with pytest.raises(LookupError):
        asyncio.run(client_of(app).send(call, patient=True))

    assert call.times == 1


@pytest.mark.usefixtures("no_pauses")
def test_patience_ends_when_it_is_given_up(app: AsyncCelery) -> None:
    client = client_of(app)
    client.given_up.set()
    call = Call(OperationalError("away"))

    with pytest.raises(OperationalError):
        asyncio.run(client.send(call, patient=True))

    assert call.times == 1


def test_a_loop_that_ends_leaves_nothing_open(redis_app: AsyncCelery) -> None:
    async def main() -> None:
        await send(redis_app, Call())
        await subscriptions_of(AsyncResult("id", app=redis_app))

    asyncio.run(main())

    # pytest makes errors of what Python would warn about.
    gc.collect()
