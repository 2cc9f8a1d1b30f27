"""LoopConsumer: connecting in a thread and consuming in the worker's own."""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import pytest
from celery.worker.consumer import Consumer

from tomskit.celery.asyncio_pool.consumer import LoopConsumer, consumer_class
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.patient_consumer import PatientConsumer

WAIT = 30.0


class Base:
    """Stands for a class of consumers: it connects, and has `loop` called then."""

    loop: Callable[..., None]

    def __init__(self, *args: object, **options: object) -> None:
        self.made_with = args, options
        self.pool: object = None
        self.events: list[tuple[object, ...]] = []
        self.connect: Callable[[], None] = lambda: None
        self.times = 1
        self.connection_errors: tuple[type[Exception], ...] = (OSError,)

    def start(self) -> None:
        for number in range(self.times):
            self.note("connects", number)
            self.connect()
            self.loop("for", number)
        self.note("ends")

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        self.note("lost", exc)

    def create_task_handler(self, promise: object = None) -> object:
        return promise

    def note(self, *event: object) -> None:
        self.events.append((*event, threading.get_ident()))


@pytest.fixture
def consumer(hub: LoopHub, monkeypatch: pytest.MonkeyPatch) -> Any:
    kind: Any = consumer_class(cast("type[Consumer]", Base), in_loop=True)
    made: Any = kind("first", option=2)
    made.hub = hub
    # Celery's own needs a worker around it.
    monkeypatch.setattr("celery.worker.loops.asynloop", partial(made.note, "loop"))
    return made


def test_the_class_is_celerys_with_the_name_of_it(consumer: Any) -> None:
    kind: Any = consumer.__class__

    assert kind.__mro__[1:4] == (LoopConsumer, PatientConsumer, Base)
    assert (kind.__name__, kind.__module__) == ("Base", __name__)
    assert consumer.made_with == (("first",), {"option": 2})


def test_it_connects_in_a_thread_and_consumes_in_the_workers(consumer: Any) -> None:
    consumer.times = 2

    consumer.start()

    mine, [other] = (
        threading.get_ident(),
        {event[-1] for event in consumer.events if event[0] != "loop"},
    )
    assert other != mine
    assert consumer.events == [
        ("connects", 0, other),
        ("loop", "for", 0, mine),
        ("connects", 1, other),
        ("loop", "for", 1, mine),
        ("ends", other),
    ]


def test_coroutines_run_while_it_connects(hub: LoopHub, consumer: Any) -> None:
    in_the_loop = threading.Event()
    hub.asyncio_loop.call_later(0.001, in_the_loop.set)

    def connect() -> None:
        assert in_the_loop.wait(WAIT)

    consumer.connect = connect
    consumer.start()

    assert consumer.events[-1][0] == "ends"


def test_it_connects_in_the_context_of_the_worker(consumer: Any) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("the worker's")
    found: list[str] = []
    consumer.connect = lambda: found.append(variable.get())

    consumer.start()

    assert found == ["the worker's"]


@pytest.mark.parametrize("error", [LookupError("x"), SystemExit(3)])
def test_what_connecting_raises_is_raised_in_the_worker(
    consumer: Any, error: BaseException
) -> None:
    def connect() -> None:
        raise error

    consumer.connect = connect

    with pytest.raises(type(error)) as caught:
        consumer.start()
    assert caught.value is error


def test_what_consuming_raises_is_raised_where_celery_reconnects(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = ConnectionResetError("lost")

    def asynloop(*_: object) -> None:
        raise lost

    monkeypatch.setattr("celery.worker.loops.asynloop", asynloop)

    with pytest.raises(ConnectionResetError) as caught:
        consumer.start()
    assert caught.value is lost
    assert [event[0] for event in consumer.events] == ["connects"]


def test_a_loss_before_anything_was_consumed_is_celerys(consumer: Any) -> None:
    lost = ConnectionResetError("lost")

    consumer.on_connection_error_after_connected(lost)
    consumer.start()

    assert consumer.events[0][:2] == ("lost", lost)
    assert "loop" in [event[0] for event in consumer.events]


def test_messages_of_other_channels_are_settled_as_by_celery(consumer: Any) -> None:
    promise = object()

    assert consumer.create_task_handler(promise) is promise
