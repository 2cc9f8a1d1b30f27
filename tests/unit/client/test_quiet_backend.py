"""The result backend, where an event loop sends tasks."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import pytest
from celery.backends.base import Backend
from kombu import Producer
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.quiet_backend import keep_quiet
from tomskit.celery._running.greenlets import GreenletCoroutine
from tomskit.celery._running.places import GreenletPlace

T = TypeVar("T")

SUBSCRIBING = ["on_task_call", "add_pending_result"]
STORING = ["apply_chord", "set_chord_size"]


class Recorder(Backend):
    """Notes what it is called with, and in which thread."""

    def __init__(self, app: AsyncApp) -> None:
        super().__init__(app)
        self.calls: list[tuple[object, ...]] = []

    def _note(self, name: str, args: tuple[object, ...]) -> str:
        self.calls.append((name, *args, threading.get_ident()))
        return "celery's answer"

    @override
    def on_task_call(self, producer: Any, task_id: Any) -> Any:
        return self._note("on_task_call", (producer, task_id))

    def add_pending_result(self, result: Any, weak: Any) -> Any:
        return self._note("add_pending_result", (result, weak))

    @override
    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> Any:
        return self._note("apply_chord", (header_result_args, body))

    @override
    def set_chord_size(self, group_id: Any, chord_size: Any) -> Any:
        return self._note("set_chord_size", (group_id, chord_size))


class App(AsyncApp):
    """Each thread has a backend of its own, as with Celery."""

    def __init__(self) -> None:
        super().__init__("quiet", broker="memory://", set_as_current=False)
        self.made: list[Recorder] = []
        self._local = threading.local()

    @property
    @override
    def backend(self) -> Backend:
        if not hasattr(self._local, "backend"):
            self._local.backend = Recorder(self)
            self.made.append(self._local.backend)
        return cast("Backend", self._local.backend)


class Sender(GreenletPlace):
    """A place that sends tasks of an app."""

    def __init__(self, app: AsyncApp) -> None:
        self._app = app

    @override
    def producer_for(self, app: AsyncApp) -> Producer | None:
        return cast("Producer", object()) if app is self._app else None


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def backend(app: App) -> Recorder:
    backend = Recorder(app)
    assert keep_quiet(app, backend) is backend
    return backend


def in_place(place: GreenletPlace, call: Callable[[], T]) -> T:
    async def main() -> T:
        return await GreenletCoroutine(call, owner=place)

    return asyncio.run(main())


def call(backend: Backend, name: str) -> object:
    return getattr(backend, name)("first", 2)


@pytest.mark.parametrize("name", [*SUBSCRIBING, *STORING])
def test_where_no_loop_sends_it_is_celerys_own(app: App, backend: Recorder, name: str) -> None:
    places = [GreenletPlace(), Sender(App())]  # of nobody, and of another app
    answers = [
        call(backend, name),
        *(in_place(place, lambda: call(backend, name)) for place in places),
    ]

    assert answers == ["celery's answer"] * 3
    assert backend.calls == [(name, "first", 2, threading.get_ident())] * 3
    assert app.made == []


@pytest.mark.parametrize("name", SUBSCRIBING)
def test_where_a_loop_sends_nothing_is_subscribed_to(
    app: App, backend: Recorder, name: str
) -> None:
    assert in_place(Sender(app), lambda: call(backend, name)) == "first"
    assert in_place(Sender(app), getattr(backend, name)) is None

    assert backend.calls == []


@pytest.mark.parametrize("name", STORING)
def test_where_a_loop_sends_a_chord_is_stored_by_a_thread_with_its_own_backend(
    app: App, backend: Recorder, name: str
) -> None:
    assert in_place(Sender(app), lambda: call(backend, name)) == "celery's answer"

    assert backend.calls == []
    [other] = app.made
    [(*called, thread)] = other.calls
    assert called == [name, "first", 2]
    assert thread != threading.get_ident()
