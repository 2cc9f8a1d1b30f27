"""What tomskit relies on in Celery beyond its public names: how the message of a task comes about."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from celery import Celery, signals
from celery.app.amqp import AMQP
from celery.app.routes import Router
from celery.events.dispatcher import EventDispatcher
from kombu import Connection
from kombu.pools import ProducerPool, producers
from typing_extensions import override

from tests.support.contracts import assert_has, untyped
from tomskit.celery._internals.celery_messages import (
    POSITION_OF_TASK_ID,
    PUBLISH_PATH,
    TASK_METHODS,
    Messages,
    call_options_of,
    connect_as_celery,
    connect_with,
    lock_free_dispatcher,
    messages_of,
    routes_by_default,
)


@pytest.fixture
def app() -> Any:
    return Celery("app", broker="memory://", set_as_current=False)


def test_the_id_has_its_place_among_the_arguments_of_send_task() -> None:
    """``Celery.send_task``."""
    assert_has(Celery, "send_task")
    names = list(inspect.signature(Celery.send_task).parameters)
    assert names.index("task_id") == POSITION_OF_TASK_ID + 1, "self comes first"


@pytest.mark.parametrize(("owner", "name"), PUBLISH_PATH, ids=str)
def test_the_functions_of_the_publish_path_are_there(owner: type, name: str) -> None:
    """``PUBLISH_PATH``: functions, whose code says which file they are from."""
    assert_has(owner, name)
    assert getattr(owner, name).__code__.co_filename


@pytest.mark.parametrize("name", TASK_METHODS)
def test_a_task_has_the_methods_of_the_publish_path(app: Any, name: str) -> None:
    """``TASK_METHODS``."""
    task = app.task(_work)
    assert_has(task, name)
    assert getattr(task, name).__code__.co_filename


def test_a_call_goes_by_the_functions_of_the_publish_path(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``PUBLISH_PATH`` and ``TASK_METHODS``: each of them is called, in this order."""
    app.task(_work, name="work")
    task = app.tasks["work"]
    called: list[str] = []
    for owner, name in [*PUBLISH_PATH, (type(task), "delay")]:
        _record_calls(monkeypatch, owner, name, called)
    task.delay()
    assert called == ["delay", "apply_async", "shadow_name", "send_task", "as_task_v2", "publish"]


def _record_calls(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, called: list[str]
) -> None:
    original = getattr(owner, name)

    def recording(*args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, recording)


def test_an_app_has_functions_of_its_own_that_make_and_send_messages(app: Any) -> None:
    """``AMQP.create_task_message`` and ``AMQP.send_task_message``."""
    messages = messages_of(app)
    assert_has(messages, "create_task_message", "send_task_message")
    for function in (messages.create_task_message, messages.send_task_message):
        assert inspect.unwrap(function).__code__.co_filename


def test_the_texts_of_arguments_have_a_greatest_length(app: Any) -> None:
    """``AMQP.argsrepr_maxsize`` and ``AMQP.kwargsrepr_maxsize``."""
    messages = messages_of(app)
    assert_has(messages, "argsrepr_maxsize", "kwargsrepr_maxsize")
    messages.argsrepr_maxsize, messages.kwargsrepr_maxsize = 10, 10
    made = app.amqp.as_task_v2("id", "name", ["x" * 100], {"y": "z" * 100})
    assert "..." in made.headers["argsrepr"]
    assert "..." in made.headers["kwargsrepr"]


def test_an_app_without_routes_routes_by_default(app: Any) -> None:
    """``AMQP.router``, its ``routes``."""
    assert_has(app.amqp, "router")
    assert_has(app.amqp.router, "routes")
    assert routes_by_default(app)
    routed = Celery("routed", task_routes={"name": "queue"}, set_as_current=False)
    assert not routes_by_default(routed)


def test_an_app_with_a_router_of_its_own_does_not(app: Any) -> None:
    class OwnRouter(untyped(Router)):  # type: ignore[misc]
        pass

    app.amqp.router = OwnRouter(app=app)
    assert not routes_by_default(app)


def test_the_options_of_all_calls_have_the_expiry(app: Any) -> None:
    """``Task._get_exec_options``."""
    task = app.task(_work, expires=7)
    assert_has(task, "_get_exec_options")
    assert call_options_of(task)["expires"] == 7


def test_a_signal_has_its_receivers() -> None:
    """``Signal.receivers``."""

    def receiver(**_: object) -> None: ...

    signal = signals.before_task_publish
    assert_has(signal, "receivers")
    assert not signal.receivers
    signal.connect(receiver)
    assert signal.receivers
    signal.disconnect(receiver)
    assert not signal.receivers


def test_a_dispatcher_locks_its_mutex_when_it_publishes(app: Any) -> None:
    """``EventDispatcher.mutex``."""
    locks: list[str] = []

    class Lock(AbstractContextManager[None]):
        @override
        def __exit__(self, *_: object) -> None:
            locks.append("released")

    dispatcher = lock_free_dispatcher(app)
    assert isinstance(dispatcher, EventDispatcher)
    assert_has(dispatcher, "mutex")
    assert isinstance(untyped(dispatcher).mutex, nullcontext)
    untyped(dispatcher).mutex = Lock()
    with app.producer_or_acquire() as producer:
        dispatcher.publish("task-sent", {}, producer)
    assert locks == ["released"]


def test_an_app_connects_with_the_connection_of_its_amqp(app: Any) -> None:
    """``AMQP.Connection``."""

    class OwnConnection(Connection): ...

    assert_has(AMQP, "Connection")
    connect_with(app, OwnConnection)
    assert type(app.connection_for_read()) is OwnConnection
    assert type(app.connection_for_write()) is OwnConnection
    connect_as_celery(app)
    assert type(app.connection_for_write()) is Connection


class OwnMessages(Messages):
    """Messages whose pool of producers is kombu's, and which tell how often it was made."""

    made = 0

    @override
    def new_producer_pool(self) -> ProducerPool:
        self.made += 1
        pool: ProducerPool = producers[self.app.connection_for_write()]
        return pool


def test_celery_takes_producers_from_the_pool_that_its_app_forgets_in_a_fork() -> None:
    """``AMQP._producer_pool``."""
    app: Any = Celery("own", broker="memory://", amqp=OwnMessages, set_as_current=False)
    assert_has(AMQP, "_producer_pool", "producer_pool", "publisher_pool")
    with app.producer_or_acquire():
        assert app.producer_pool is app.amqp.producer_pool is app.amqp.publisher_pool
    assert app.amqp.made == 1
    app._after_fork()
    with app.producer_or_acquire():
        assert app.amqp.made == 2


def _work() -> None: ...
