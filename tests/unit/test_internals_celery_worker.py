"""What tomskit relies on in Celery beyond its public names: the worker, its pool, its consumer."""

import inspect
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import Mock
from weakref import ref

import pytest
from celery import Celery, _state, platforms
from celery.app import trace
from celery.apps import worker as worker_program
from celery.concurrency import solo
from celery.concurrency.base import BasePool
from celery.concurrency.thread import TaskPool as ThreadsPool
from celery.events import EventDispatcher
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.worker import WorkController, components, loops, state
from celery.worker import request as celery_request
from celery.worker.consumer import Consumer
from celery.worker.heartbeat import Heart
from celery.worker.request import Request
from kombu.asynchronous import Hub, set_event_loop
from kombu.asynchronous.timer import Timer
from kombu.message import Message
from kombu.pidbox import Node
from typing_extensions import override

from tests.support.contracts import assert_accepts, assert_has, assert_signature, untyped
from tomskit.celery._internals import celery_worker
from tomskit.celery._internals.celery_worker import (
    Worker,
    consumer_class_of,
    make_hub_of,
    obey_commands_by,
    quit_requested,
    quit_worker,
    renew_strategy,
    request_of,
    restores_prefetch,
    send_events_as_celery,
    send_events_by,
    sets_limits,
    stop_if_requested,
    stop_requested,
    stop_worker,
    tags_of_running_tasks,
    tags_of_tasks_that_wait,
)

flags = untyped(state)


class RecordingPool(BasePool):
    """A pool that records with what tasks are to be run."""

    @override
    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        self.applied = args, kwargs
        self.job = Job()
        return self.job


class Job:
    """A job of the pool that records how it was terminated."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def terminate(self, signal: int) -> None:
        self.signals.append(signal)


@pytest.fixture
def app() -> Any:
    app: Any = Celery("app", broker="memory://", set_as_current=False)
    app.task(_work, name="work")
    app.finalize()
    return app


@pytest.fixture
def worker(app: Any) -> Iterator[Any]:
    yield app.WorkController(pool="solo", hostname="test@localhost")
    set_event_loop(None)
    # A worker with this pool refuses to wait for results.
    untyped(_state)._set_task_join_will_block(False)


@pytest.fixture
def message(app: Any) -> Message:
    made = app.amqp.as_task_v2("id", "work", [1], {}, time_limit=7)
    return Message(
        body=json.dumps(made.body),
        headers=made.headers,
        properties=made.properties,
        delivery_info={},
        delivery_tag="tag",
        content_type="application/json",
        content_encoding="utf-8",
    )


@pytest.fixture
def pool(app: Any) -> RecordingPool:
    return RecordingPool(1, app=app)


@pytest.fixture(params=["Request", "create_request_cls"])
def make_request(
    request: pytest.FixtureRequest, app: Any, pool: RecordingPool
) -> Callable[..., Any]:
    """Both ways in which Celery makes the request of a task."""
    if request.param == "Request":
        return Request
    task = app.tasks["work"]
    make_class = untyped(celery_request).create_request_cls
    made: Callable[..., Any] = make_class(Request, task, pool, "test@localhost", None, app=app)
    return made


def test_a_worker_has_what_boot_steps_use(worker: Any) -> None:
    """``pool_cls``, ``consumer_cls``, ``concurrency``, ``options``, ``steps``, ``use_eventloop``.

    And what the command line sets: ``pool_start_method``, ``optimization``, ``autoscale``,
    ``max_tasks_per_child``, ``max_memory_per_child``.
    """
    assert_has(worker, *inspect.get_annotations(Worker))
    assert worker.pool_cls.__module__ == "celery.concurrency.solo"
    assert_has(worker.pool_cls, "is_green")
    assert isinstance(worker.options, dict)
    assert isinstance(worker.steps, list)


def test_the_hub_is_made_of_the_class_that_the_connection_requires(worker: Any) -> None:
    """``WorkController._conninfo``, its ``requires_hub``."""

    class OwnHub(Hub): ...

    assert_has(worker, "_conninfo")
    make_hub_of(OwnHub, worker)
    set_event_loop(None)
    untyped(components).Hub(worker).create(worker)
    assert type(worker.hub) is OwnHub, "_conninfo.requires_hub is not looked at any more"
    worker.hub.close()


def test_the_consumer_is_made_of_the_class_of_the_worker(worker: Any) -> None:
    """``WorkController.consumer_cls``, a class or its name."""
    assert consumer_class_of(worker) is Consumer
    worker.consumer_cls = "celery.worker.consumer:Consumer"
    assert consumer_class_of(worker) is Consumer
    assert "consumer_cls" in untyped(components).Consumer.create.__code__.co_names


def test_a_worker_has_a_method_that_waits_for_a_soft_shutdown(worker: Any) -> None:
    """``WorkController.wait_for_soft_shutdown``."""
    assert_signature(WorkController, "wait_for_soft_shutdown", "(self)")


def test_a_worker_knows_its_exit_code() -> None:
    """``WorkController.exitcode``."""
    assert WorkController.exitcode is None
    assert_signature(WorkController, "stop", "(self, in_sighandler=False, exitcode=None)")


def test_a_worker_looks_at_two_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """``state.should_stop`` and ``state.should_terminate``."""
    assert_has(state, "should_stop", "should_terminate")
    monkeypatch.setattr(state, "should_stop", None)
    monkeypatch.setattr(state, "should_terminate", None)
    state.maybe_shutdown()
    assert not stop_requested()
    assert not quit_requested()
    stop_worker(0)
    assert stop_requested()
    with pytest.raises(WorkerShutdown):
        state.maybe_shutdown()
    quit_worker(0)
    assert quit_requested()
    with pytest.raises(WorkerTerminate):
        state.maybe_shutdown()


@pytest.mark.parametrize("install", ["install_worker_term_handler", "install_worker_int_handler"])
def test_the_handlers_of_a_warm_shutdown_set_a_flag_and_raise_nothing(
    install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``install_worker_term_handler`` and ``install_worker_int_handler``, with a single thread as well."""
    monkeypatch.setattr(state, "should_stop", None)
    handlers: dict[str, Callable[..., object]] = {}
    monkeypatch.setattr(platforms, "signals", handlers)
    getattr(worker_program, install)(Mock(hostname="test@localhost"))
    [handler] = handlers.values()

    handler(signal.SIGTERM, None)

    assert stop_requested()


def test_running_tasks_have_the_tags_of_their_messages(
    app: Any, message: Message, make_request: Callable[..., Any]
) -> None:
    """``state.active_requests``, the ``message.delivery_tag`` of each."""
    assert_has(state, "active_requests")
    request = make_request(message, app=app, task=app.tasks["work"])
    state.task_accepted(request)
    try:
        assert tags_of_running_tasks() == {"tag"}
    finally:
        state.task_ready(request)
    assert tags_of_running_tasks() == set()


def test_tasks_that_wait_in_a_pool_of_threads_have_the_tags_of_their_messages(
    app: Any, message: Message, make_request: Callable[..., Any]
) -> None:
    """``state.reserved_requests``, which has those that wait and those that run."""
    assert_has(state, "reserved_requests")
    request = make_request(message, app=app, task=app.tasks["work"])
    state.task_reserved(request)
    try:
        assert tags_of_tasks_that_wait(ThreadsPool(1)) == {"tag"}
        assert tags_of_tasks_that_wait(RecordingPool(1)) == set()
    finally:
        state.task_ready(request)
    assert tags_of_tasks_that_wait(ThreadsPool(1)) == set()


def test_a_pool_is_asked_for_its_info() -> None:
    """``BasePool._get_info``."""
    assert_signature(BasePool, "_get_info", "(self)")
    assert untyped(celery_worker.TaskPool) is BasePool

    class Pool(celery_worker.TaskPool):
        @override
        def _get_info(self) -> dict[str, object]:
            return {**super()._get_info(), "ours": 1}

    assert Pool(7).info == {
        "implementation": f"{__name__}:Pool",
        "max-concurrency": 7,
        "ours": 1,
    }


def test_a_pool_has_the_hooks_that_we_override() -> None:
    """``BasePool.on_start``, ``on_stop``, ``on_terminate`` and others."""
    for name in ("on_start", "on_stop", "on_terminate", "flush"):
        assert_signature(BasePool, name, "(self)")
    assert_signature(BasePool, "terminate_job", "(self, pid, signal=None)")
    for method, hook in (("start", "on_start"), ("stop", "on_stop"), ("terminate", "on_terminate")):
        assert hook in getattr(BasePool, method).__code__.co_names


def test_the_solo_pool_has_what_runs_a_function_as_an_attribute() -> None:
    """``BasePool.on_apply``, which `SoloPool` sets in its ``__init__``."""
    pool: Any = solo.TaskPool()
    pool.on_apply = Mock()

    pool.apply_async(len, ("ab",), callback=print)

    [call] = pool.on_apply.call_args_list
    assert call.args == (len, ("ab",), {})
    assert call.kwargs["callback"] is print


def test_the_worker_gives_its_time_limits_to_the_pool() -> None:
    names = untyped(components).Pool.create.__code__.co_names
    assert {"time_limit", "soft_time_limit"} <= set(names)
    assert {"'timeout'", "'soft_timeout'"} <= set(
        re.findall(r"'\w+'", str(untyped(components).Pool.create.__code__.co_consts))
    )


def test_a_request_gives_its_callbacks_to_the_pool_by_name(
    app: Any, message: Message, pool: RecordingPool, make_request: Callable[..., Any]
) -> None:
    """``BasePool.on_apply``, ``Request.on_accepted``, ``_apply_result``, and ``fast_trace_task``."""
    request = make_request(message, app=app, task=app.tasks["work"])
    request.execute_using_pool(pool)
    [target, args, kwargs], options = pool.applied
    assert target in {trace.fast_trace_task, trace.trace_task_ret}
    assert not kwargs
    assert {
        "accept_callback",
        "callback",
        "error_callback",
        "timeout_callback",
        "soft_timeout",
        "timeout",
    } <= options.keys()
    found: Any = request_of(options["accept_callback"])
    assert found is request, "on_accepted is no bound method"
    assert len(args) == 6
    assert args[:2] == ("work", "id")
    assert sets_limits(args[2]), "the request has no timelimit any more"
    assert_has(request, "_apply_result")
    reference = untyped(request)._apply_result
    assert type(reference) is ref
    assert reference() is pool.job


def test_a_call_without_limits_sets_none(app: Any) -> None:
    """``timelimit`` is there in every request, a pair of two."""
    made = app.amqp.as_task_v2("id", "work")
    assert list(made.headers["timelimit"]) == [None, None]
    assert not sets_limits(made.headers)


def test_terminating_a_request_terminates_the_job(
    app: Any, message: Message, pool: RecordingPool, make_request: Callable[..., Any]
) -> None:
    """``Request._apply_result``, with a method ``terminate``."""
    request = make_request(message, app=app, task=app.tasks["work"])
    request.execute_using_pool(pool)
    request.terminate(pool, 15)
    assert pool.job.signals == [15]


def test_a_request_says_whether_it_is_revoked(
    app: Any, message: Message, make_request: Callable[..., Any]
) -> None:
    request = make_request(message, app=app, task=app.tasks["work"])
    assert_accepts(request, "revoked")
    assert request.revoked() is False


def test_a_consumer_with_a_hub_consumes_by_asynloop() -> None:
    """``Consumer.loop``, which Celery sets to ``loops.asynloop``."""
    assert_signature(
        loops,
        "asynloop",
        "(obj, connection, consumer, blueprint, hub, qos, heartbeat, clock, hbrate=2.0)",
    )
    assert {"asynloop", "loop"} <= set(untyped(Consumer).__init__.__code__.co_names)


def test_a_consumer_has_the_methods_that_we_override() -> None:
    """``on_connection_error_after_connected`` and ``start``."""
    assert_signature(Consumer, "on_connection_error_after_connected", "(self, exc)")
    assert_signature(Consumer, "start", "(self)")
    assert "on_connection_error_after_connected" in Consumer.start.__code__.co_names


def test_a_consumer_connects_again_after_errors_that_it_has() -> None:
    """``Consumer.connection_errors``."""
    assert "connection_errors" in Consumer.__init__.__code__.co_names
    assert "connection_errors" in Consumer.start.__code__.co_names


def test_messages_are_settled_by_promises_of_the_class_that_is_given() -> None:
    """``Consumer.create_task_handler``, its argument ``promise``."""
    made: list[Any] = []

    class Settling:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append((args, kwargs))

    received: list[Any] = []

    def receive(*args: Any) -> None:
        received.append(args)

    class Unconnected(untyped(Consumer)):  # type: ignore[misc]
        strategies: ClassVar[Any] = {"work": receive}
        on_unknown_message = on_unknown_task = on_invalid_task = None
        on_task_message = ()
        call_soon_ack = "call_soon_ack"
        _maximum_prefetch_restored = True

        def __init__(self) -> None: ...

    assert_accepts(Consumer, "create_task_handler", None, promise=Settling)
    handler = Unconnected().create_task_handler(promise=Settling)
    message = Message(headers={"task": "work"}, delivery_tag="tag")
    handler(message)
    settled = [args[1] for args, _ in made]
    assert settled == [(message.ack_log_error,), (message.reject_log_error,)]
    [(_, _, acknowledge, reject, _)] = received
    assert isinstance(acknowledge, Settling)
    assert isinstance(reject, Settling)


def test_an_ordinary_call_goes_past_the_handler_unless_the_prefetch_count_is_restored() -> None:
    """``Consumer.strategies``, ``on_task_message`` and ``_maximum_prefetch_restored``."""
    names = untyped(Consumer).create_task_handler.__code__.co_names
    assert {"strategies", "on_task_message"} <= set(names)
    made = untyped(Consumer).__init__.__code__.co_names
    assert {"on_task_message", "_maximum_prefetch_restored"} <= set(made)
    for restored in (True, False):
        consumer = SimpleNamespace(_maximum_prefetch_restored=restored)
        assert restores_prefetch(consumer) is not restored


def _work() -> None: ...


def test_a_strategy_takes_the_limits_that_its_task_has_when_it_is_made(
    celery_app: Celery, celery_task: Any
) -> None:
    """``Consumer.strategies`` and ``Task.start_strategy``."""
    made: list[object] = []

    def start(app: object, consumer: object) -> object:
        made.append((app, consumer))
        return "new"

    consumer = SimpleNamespace(app=celery_app, strategies={celery_task.name: "old", "gone": "old"})
    assert_accepts(type(celery_task), "start_strategy", None, celery_app, consumer)
    celery_task.start_strategy = start

    for name in (celery_task.name, "gone", "unknown", None):
        renew_strategy(consumer, name)

    assert consumer.strategies == {celery_task.name: "new", "gone": "old"}
    assert made == [(celery_app, consumer)]
    assert "start_strategy" in untyped(Consumer).update_strategies.__code__.co_names
    assert (
        "default_soft_time_limit" in untyped(celery_request).create_request_cls.__code__.co_cellvars
    )


def test_a_consumer_connects_and_says_when_it_is_ready() -> None:
    """``Consumer.connection_for_read``, its argument ``heartbeat``, and ``Consumer.on_ready``."""
    assert_signature(Consumer, "connection_for_read", "(self, heartbeat=None)")
    assert_signature(Consumer, "on_ready", "(self)")
    assert "connection_for_read" in Consumer.connect.__code__.co_names
    assert "on_ready" in untyped(loops).asynloop.__code__.co_names
    assert "on_ready" in untyped(loops).synloop.__code__.co_names


def test_a_consumer_has_a_timer() -> None:
    """``Consumer.timer``, its ``call_after``, and ``cancel`` of what that returns."""
    assert_has(Timer, "call_after")
    entry = Timer().call_after(60.0, lambda: None)
    entry.cancel()
    assert "timer" in untyped(Consumer).__init__.__code__.co_names


def test_a_worker_that_waits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """``state.maybe_shutdown``."""
    stop_if_requested()
    monkeypatch.setattr(flags, "should_stop", 3)
    with pytest.raises(WorkerShutdown):
        stop_if_requested()


def test_remote_control_is_obeyed_by_a_node_whose_class_can_be_replaced(app: Any) -> None:
    """``Control.mailbox`` makes it of its ``node_cls``."""

    class Mine(Node):
        pass

    obey_commands_by(Mine, app)

    assert type(app.control.mailbox.Node("test@localhost")) is Mine


def test_a_worker_sends_events_by_a_dispatcher_whose_class_can_be_replaced(app: Any) -> None:
    """``Events.dispatcher_cls`` and ``Events.Dispatcher``."""

    class Mine(EventDispatcher):
        pass

    celerys = app.events.Dispatcher
    send_events_by(Mine, app)
    assert issubclass(app.events.Dispatcher, Mine)

    send_events_as_celery(app)
    assert not issubclass(app.events.Dispatcher, Mine)
    assert app.events.Dispatcher.__mro__[1:] == celerys.__mro__[1:]


def test_a_worker_asks_for_its_heartbeats_to_be_sent_again_and_again() -> None:
    """The argument ``retry`` of ``EventDispatcher.send``."""
    sent: list[tuple[object, bool]] = []

    class Recording:
        enabled = True
        on_enabled: set[object] = set()  # noqa: RUF012 (as Celery has it)
        on_disabled: set[object] = set()  # noqa: RUF012

        def send(self, event: str, *, retry: bool, **_: object) -> None:
            sent.append((event, retry))

    untyped(Heart)(Timer(), Recording()).start()

    assert sent == [("worker-online", True)]


def test_a_consumer_has_its_pool_end_each_task_and_then_says_so(
    app: Any, message: Message, make_request: Callable[..., Any]
) -> None:
    """``Consumer.cancel_active_requests``, and ``terminate_job`` of the pool."""
    assert_signature(Consumer, "cancel_active_requests", "(self)")
    consumer = Mock()
    request = make_request(message, app=app, task=app.tasks["work"])
    request.on_accepted(pid=1, time_accepted=time.monotonic())
    steps: list[bool] = []

    def end(*_: object) -> None:
        steps.append(request in state.active_requests)

    consumer.pool.terminate_job = end
    assert request in state.active_requests

    untyped(Consumer).cancel_active_requests(consumer)

    assert steps == [True]
    assert request not in state.active_requests


def test_a_consumer_knows_its_worker(worker: Any) -> None:
    """``Consumer.controller``, which the signal ``worker_ready`` is asked for, and its processes."""
    assert "controller" in inspect.signature(Consumer.__init__).parameters
    assert worker.concurrency > 0
    assert issubclass(worker.pool_cls, BasePool)


def test_a_consumer_has_a_connection_made_by_a_method_of_it_and_counts_the_tries(app: Any) -> None:
    """``Consumer.ensure_connected``, ``broker_connection_retry_attempt``, and ``ensure_connection``."""
    consumer = untyped(Consumer).__new__(Consumer)
    consumer.app, consumer.first_connection_attempt = app, True
    consumer.broker_connection_retry_attempt = 0
    counted: list[int] = []

    class Connection:
        def ensure_connection(self, write: Any, *_: object, **__: object) -> object:
            for pause in (2.0, 0.0, 4.0):
                write(OSError("refused"), pause)
                counted.append(consumer.broker_connection_retry_attempt)
            return "connected"

        def as_uri(self) -> str:
            return "redis://server"

    assert consumer.ensure_connected(Connection()) == "connected"

    assert counted == [1, 1, 2]
    assert consumer.broker_connection_retry_attempt == 0
