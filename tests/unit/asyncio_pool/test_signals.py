"""Signals that end a worker, handled in its turn."""

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest
from celery.worker import state

from tomskit.celery._internals.celery_worker import quit_requested, stop_requested
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.signals import SignalHandlers

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(state, "should_stop", None)
    monkeypatch.setattr(state, "should_terminate", None)
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


class Celerys:
    """Celery's handlers: notes what they are called with."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        for number in SIGNALS:
            signal.signal(number, self.handle)

    def handle(self, number: int, frame: FrameType | None) -> None:
        assert frame is None
        self.handled.append(number)


@pytest.fixture
def celerys() -> Celerys:
    return Celerys()


@pytest.fixture
def handlers(hub: LoopHub, celerys: Celerys) -> Iterator[SignalHandlers]:
    handlers = SignalHandlers(hub)
    handlers.install()
    yield handlers
    handlers.remove()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_handled_in_the_workers_turn(
    hub: LoopHub, celerys: Celerys, handlers: SignalHandlers, number: signal.Signals
) -> None:
    in_coroutine: list[list[int]] = []

    def signalled() -> None:
        os.kill(os.getpid(), number)
        in_coroutine.append(celerys.handled.copy())

    hub.asyncio_loop.call_soon(signalled)
    hub.turn(3600)

    assert in_coroutine == [[]]
    assert celerys.handled == [number]


def test_a_handler_that_was_put_in_meanwhile_is_called_the_next_time(
    hub: LoopHub, celerys: Celerys, handlers: SignalHandlers
) -> None:
    events: list[str] = []

    def second(number: int, frame: FrameType | None) -> None:
        events.append("second")

    def first(number: int, frame: FrameType | None) -> None:
        events.append("first")
        signal.signal(signal.SIGINT, second)  # as Celery's does

    handlers.remove()
    signal.signal(signal.SIGINT, first)
    handlers.install()
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        assert len(events) < 2
        hub.turn(3600)

    assert events == ["first", "second"]


def test_the_second_sigterm_ends_the_worker_now(
    hub: LoopHub, celerys: Celerys, handlers: SignalHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "should_stop", 0)

    os.kill(os.getpid(), signal.SIGTERM)
    hub.turn(3600)

    assert celerys.handled == [signal.SIGQUIT]


def test_removing_them_puts_celerys_back(celerys: Celerys, handlers: SignalHandlers) -> None:
    handlers.remove()

    assert [signal.getsignal(number) for number in SIGNALS] == [celerys.handle] * 4


def test_removing_them_leaves_a_handler_that_somebody_else_has_put_in(
    celerys: Celerys, handlers: SignalHandlers
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    handlers.remove()

    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_signal_that_is_ignored_stays_so(hub: LoopHub, celerys: Celerys) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handlers = SignalHandlers(hub)

    handlers.install()

    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    handlers.remove()


def test_a_signal_that_arrives_as_they_are_removed_is_dropped(
    hub: LoopHub, celerys: Celerys, handlers: SignalHandlers
) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    handlers.remove()
    hub.turn(3600)

    assert celerys.handled == []


@pytest.mark.parametrize(
    ("value", "requested"), [(None, False), (False, False), (0, True), (1, True), (True, True)]
)
def test_an_exit_code_asks_for_the_end_and_0_is_one(
    monkeypatch: pytest.MonkeyPatch, value: object, requested: bool
) -> None:
    monkeypatch.setattr(state, "should_stop", value)
    assert (stop_requested(), quit_requested()) == (requested, False)

    monkeypatch.setattr(state, "should_stop", None)
    monkeypatch.setattr(state, "should_terminate", value)
    assert (stop_requested(), quit_requested()) == (False, requested)
