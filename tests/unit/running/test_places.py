"""Places: where plain code may wait, and how it publishes from there."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pytest
from kombu import Producer
from typing_extensions import override

from tests.support.recorder import Recorder
from tomskit.celery._app import AsyncApp
from tomskit.celery._running.greenlets import GreenletCoroutine, await_here
from tomskit.celery._running.places import GreenletPlace, Place, here, set_outer_place
from tomskit.resources import Resources

R = TypeVar("R")


class Blocking(Place):
    """The worker's own, as it were: it has a loop to wait with."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @override
    def wait(self, awaitable: Awaitable[R]) -> R:
        async def wait() -> R:
            return await awaitable

        return self._loop.run_until_complete(wait())

    @override
    def wait_to_the_end(self, future: asyncio.Future[R]) -> R:
        return self.wait(future)


@dataclass
class Sent:
    patient: bool
    blocks: bool


class Sender:
    """Sends nothing but what it is given, and notes how it was to be sent."""

    given_up = threading.Event()

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    async def send(
        self, call: Callable[[], R], *, patient: bool = False, blocks: bool = False
    ) -> R:
        await asyncio.sleep(0)
        self.sent.append(Sent(patient, blocks))
        return call()


@pytest.fixture
def app() -> Iterator[AsyncApp]:
    app = AsyncApp("places", broker="memory://", set_as_current=False)
    app.async_client = Sender()
    yield app
    app.close()


@pytest.fixture
def outer_place() -> Iterator[list[Place | None]]:
    """What the function that finds the place of code in no greenlet answers."""
    answer: list[Place | None] = [None]
    set_outer_place(lambda: answer[0])
    yield answer
    set_outer_place(None)


def in_place(place: object, function: Callable[[], R]) -> R:
    async def main() -> R:
        return await GreenletCoroutine(function, owner=place)

    return asyncio.run(main())


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


# -- which place it is


def test_outside_there_is_no_place() -> None:
    async def find() -> Place | None:
        return here()

    assert here() is None
    assert asyncio.run(find()) is None


def test_a_greenlets_place_is_its_owner() -> None:
    place = GreenletPlace()

    assert in_place(place, here) is place


def test_a_coroutine_that_a_greenlet_awaits_is_in_its_place() -> None:
    place = GreenletPlace()

    async def find() -> Place | None:
        return here()

    assert in_place(place, lambda: await_here(find())) is place


def test_a_greenlet_of_somebody_else_is_no_place() -> None:
    assert in_place("somebody", here) is None


def test_code_in_no_greenlet_has_the_outer_place(outer_place: list[Place | None]) -> None:
    loop = asyncio.new_event_loop()
    outer_place[0] = place = Blocking(loop)
    loop.close()

    assert here() is place
    assert in_place("somebody", here) is place


def test_a_greenlets_own_place_goes_before_the_outer_one(outer_place: list[Place | None]) -> None:
    loop = asyncio.new_event_loop()
    outer_place[0] = Blocking(loop)
    loop.close()
    place = GreenletPlace()

    assert in_place(place, here) is place


def test_the_outer_place_may_be_none_just_now(outer_place: list[Place | None]) -> None:
    assert here() is None


def test_the_outer_place_can_be_taken_back(outer_place: list[Place | None]) -> None:
    loop = asyncio.new_event_loop()
    outer_place[0] = Blocking(loop)
    loop.close()

    set_outer_place(None)

    assert here() is None


# -- waiting


def test_a_greenlet_waits() -> None:
    place = GreenletPlace()

    assert in_place(place, lambda: place.wait(double(21))) == 42


def test_a_greenlet_waits_to_the_end() -> None:
    place = GreenletPlace()

    def work() -> int:
        return place.wait_to_the_end(asyncio.ensure_future(double(21)))

    assert in_place(place, work) == 42


def test_a_coroutine_runs_in_the_scopes_of_the_resources() -> None:
    events: list[str] = []
    place = GreenletPlace()

    result = in_place(place, lambda: place.run(double(21), Resources([Recorder(events)])))

    assert result == 42
    assert events == ["started", "entered", "left", "stopped"]


def test_a_place_allows_everything_unless_it_says_otherwise(app: AsyncApp) -> None:
    place = GreenletPlace()

    place.check()

    assert place.may_store()
    assert place.producer_for(app) is None


# -- publishing


def publish(app: AsyncApp, *args: object, place: Place | None = None, **kwargs: Any) -> object:
    """What `send_task` was called with."""
    place = place or GreenletPlace()
    calls: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def send_task(*args: object, **kwargs: object) -> str:
        calls.append((args, kwargs))
        return "the result"

    assert in_place(place, lambda: place.publish(app, send_task, args, kwargs)) == "the result"
    [call] = calls
    return call


def how(app: AsyncApp) -> Sent:
    [sent] = cast("Sender", app.async_client).sent
    return sent


def test_publishing_is_patient_unless_something_is_said(app: AsyncApp) -> None:
    publish(app, "name")

    assert how(app) == Sent(patient=True, blocks=False)


@pytest.mark.parametrize(
    "options", [{"retry": False}, {"retry_policy": {"max_retries": 1}}, {"retry_policy": None}]
)
def test_who_says_how_to_retry_gets_no_patience(app: AsyncApp, options: dict[str, Any]) -> None:
    publish(app, "name", **options)

    assert how(app) == Sent(patient=False, blocks=False)


def test_retry_that_is_asked_for_is_patient(app: AsyncApp) -> None:
    app.conf.task_publish_retry = False

    publish(app, "name", retry=True)

    assert how(app).patient


def test_an_app_that_does_not_retry_is_not_patient(app: AsyncApp) -> None:
    app.conf.task_publish_retry = False

    publish(app, "name")

    assert not how(app).patient


def test_a_producer_of_the_callers_own_blocks(app: AsyncApp) -> None:
    producer = cast("Producer", object())

    publish(app, "name", producer=producer)

    assert how(app) == Sent(patient=False, blocks=True)


def test_a_place_that_is_not_patient_never_is(app: AsyncApp) -> None:
    class Impatient(GreenletPlace):
        patient = False

    publish(app, "name", place=Impatient())

    assert not how(app).patient


def test_a_message_keeps_its_id_however_often_it_is_sent(app: AsyncApp) -> None:
    ids: list[object] = []

    class Twice(Sender):
        @override
        async def send(
            self, call: Callable[[], R], *, patient: bool = False, blocks: bool = False
        ) -> R:
            call()
            return call()

    app.async_client = Twice()
    place = GreenletPlace()

    def send_task(name: str, *, task_id: str) -> None:
        ids.append(task_id)

    in_place(place, lambda: place.publish(app, send_task, ("name",), {}))

    assert len(ids) == 2
    assert ids[0] == ids[1]
    assert isinstance(ids[0], str)


def test_an_id_that_is_given_is_kept(app: AsyncApp) -> None:
    assert publish(app, "name", task_id="mine") == (("name",), {"task_id": "mine"})


def test_an_id_that_is_given_by_its_position_is_kept(app: AsyncApp) -> None:
    args: tuple[object, ...] = ("name", (), {}, None, None, "mine")

    assert publish(app, *args) == (args, {})


def test_a_task_that_was_ended_publishes_nothing(app: AsyncApp) -> None:
    class Ended(GreenletPlace):
        @override
        def check(self) -> None:
            raise LookupError("ended")

    with pytest.raises(LookupError, match="ended"):
        publish(app, "name", place=Ended())

    assert cast("Sender", app.async_client).sent == []
