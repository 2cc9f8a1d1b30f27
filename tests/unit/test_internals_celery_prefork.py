"""What tomskit relies on in Celery and billiard beyond their public names: the jobs of a prefork pool."""

import inspect
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from billiard import pool as billiard_pool
from billiard.pool import ApplyResult
from celery import Celery
from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool as PreforkPool
from kombu.asynchronous import Hub

from tests.support.contracts import assert_has, assert_signature, untyped
from tomskit.celery._internals.celery_prefork import (
    AsyncProcess,
    BlockingProcess,
    KeepingJobs,
    blocking_jobs_class_of,
    jobs_class_of,
    tags_of_kept,
)

FD = 1000
"""The number of a pipe to a process; nothing opens it."""

STARTED = ("_make_child_methods", "after_fork", "on_loop_start", "workloop")
"""What a process calls, in this order."""


class KeepingPool(KeepingJobs, AsynPool):
    """As a worker has it."""


class Request:
    """A request of a task, whose method the pool calls when a process has begun it."""

    def __init__(self, tag: str) -> None:
        self.message = Mock(delivery_tag=tag)

    def on_accepted(self, pid: int, time_accepted: float) -> None: ...


class Process:
    """A process of the pool, which reads what it is sent, up to so many bytes."""

    inqW_fd = FD  # noqa: N815 (the name is billiard's)
    index = 0
    exitcode = None
    dead = False

    def __init__(self) -> None:
        self.takes = 1_000_000
        self.alive = True
        self.inq = Mock()

    def send_job_offset(self, data: memoryview, offset: int) -> int:
        """Write to the pipe."""
        if not self.takes:
            raise BlockingIOError(11, "full")
        sent = min(self.takes, len(data) - offset)
        self.takes -= sent
        return sent

    def _is_alive(self) -> bool:
        return self.alive


def _pool(kind: type[AsynPool]) -> Any:
    """A pool that starts no processes, and whose process is `Process`."""
    made: Any = object.__new__(kind)
    made._state, made.threads, made.synack, made.sched_strategy = (
        billiard_pool.RUN,
        False,
        False,
        4,
    )
    made._cache, made._pool, made.outbound_buffer, made.write_stats = {}, [], deque(), Counter()
    made._active_writes, made._active_writers, made._busy_workers = set(), set(), set()
    made.process = Process()
    made._fileno_to_inq, made._fileno_to_synq, made._all_inqueues = {FD: made.process}, {}, {FD}
    made.maintain_pool = Mock()
    made.hub = Hub()
    made.hub.add_writer = made.hub.remove_writer = Mock()
    made._create_write_handlers(made.hub)
    return made


@pytest.fixture
def plain() -> Iterator[Any]:
    made = _pool(AsynPool)
    yield made
    made.hub.close()


@pytest.fixture
def pool() -> Iterator[Any]:
    made = _pool(KeepingPool)
    yield made
    made.hub.close()


def job_of(pool: Any, tag: str = "tag") -> Any:
    """A job that waits."""
    job: Any = ApplyResult(pool._cache, None, accept_callback=Request(tag).on_accepted)
    pool._quick_put((billiard_pool.TASK, (job._job, None, print, (), {})))
    return job


def give(pool: Any) -> None:
    """Give a job to the process, as Celery does when its pipe can be written to."""
    pool.hub.consolidate_callback([FD])


def test_a_pool_has_its_processes_as_attribute() -> None:
    """``TaskPool.Pool``, ``_pool``, and ``flush``, which the worker calls."""
    assert jobs_class_of(PreforkPool) is AsynPool
    app = Celery("app", set_as_current=False)
    made = untyped(PreforkPool)(1, app=app, threads=False)
    made.Pool = Mock()

    made.on_start()

    assert made._pool is made.Pool()
    assert made.flush is made._pool.flush


def test_celery_drops_a_job_that_was_given_to_a_process(plain: Any) -> None:
    """``flush``, ``_cache``, and of a job ``_write_to``, ``_accepted`` and ``_worker_pid``."""
    job = job_of(plain)
    assert job._write_to is None
    give(plain)
    assert job._write_to is plain.process
    assert (job._accepted, job._worker_pid) == (False, None)

    plain.flush()

    assert plain._cache == {}


def test_a_job_that_was_given_to_a_process_is_kept(pool: Any) -> None:
    """``_accept_callback``, by which the message of the job is found."""
    given = job_of(pool)
    give(pool)
    job_of(pool, "waits")
    assert tags_of_kept(Mock(_pool=pool)) == {"tag"}

    pool.flush()

    assert list(pool._cache.values()) == [given]
    assert pool._busy_workers == {FD}
    assert not given._accepted
    given._ack(None, 1.0, 7, None)
    assert (given._accepted, given._worker_pid) == (True, 7)
    assert tags_of_kept(Mock(_pool=pool)) == set()


def test_a_job_that_begins_meanwhile_has_begun(pool: Any) -> None:
    job = job_of(pool)
    give(pool)
    pool.maintain_pool.side_effect = lambda: job._ack(None, 1.0, 7, None)

    pool.flush()

    assert job._accepted


def test_a_job_whose_process_has_died_goes_to_another_one(pool: Any) -> None:
    """``_put_back``, ``_is_alive``."""
    job = job_of(pool)
    give(pool)
    pool.process.alive = False

    pool.flush()

    assert list(pool._cache.values()) == list(pool.outbound_buffer) == [job]


def test_a_job_whose_process_has_died_is_dropped_when_the_pool_stops(pool: Any) -> None:
    """``discard``, ``_state``, ``RUN``."""
    assert_has(billiard_pool, "RUN")
    job_of(pool)
    give(pool)
    pool.process.alive = False
    pool._state = billiard_pool.CLOSE

    pool.flush()

    assert pool._cache == {}


def test_the_rest_of_a_job_is_written_when_the_pool_stops(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``_flush_writer``, ``_active_writers``, and ``_writer`` of a job."""
    assert_signature(AsynPool, "_flush_writer", "(self, proc, writer)")
    written: list[object] = []

    def flush_writer(_: AsynPool, proc: object, writer: object) -> None:
        written.append((proc, writer))

    monkeypatch.setattr(AsynPool, "_flush_writer", flush_writer)
    pool.process.takes = 10
    job = job_of(pool)
    give(pool)
    [writer] = pool._active_writers
    assert job._writer() is writer
    pool._state = billiard_pool.CLOSE

    pool.flush()

    assert written == [(pool.process, writer)]


def test_a_process_that_was_given_a_job_is_active(plain: Any, pool: Any) -> None:
    """``_worker_active``."""
    for one, active in ((plain, False), (pool, True)):
        job = job_of(one)
        assert not one._worker_active(Mock(pid=7))
        one.process.pid = 7
        give(one)
        assert one._worker_active(one.process) is active
        job._ack(None, 1.0, 7, None)
        assert one._worker_active(one.process)


def test_other_pools_keep_nothing() -> None:
    assert tags_of_kept(Mock(_pool=None)) == tags_of_kept(object()) == set()


def test_limits_are_looked_at_by_a_class_that_the_pool_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``AsynPool.TimeoutHandler`` and its `on_soft_timeout`."""
    handler: Any = untyped(AsynPool).TimeoutHandler
    assert_signature(handler, "on_soft_timeout", "(self, job)")
    assert issubclass(untyped(KeepingPool).TimeoutHandler, handler)
    killed: list[int] = []

    def kill(pid: int, signal: int) -> None:
        assert signal == untyped(billiard_pool).SIG_SOFT_TIMEOUT
        killed.append(pid)

    monkeypatch.setattr(billiard_pool, "_kill", kill)
    limits: Any = untyped(KeepingPool).TimeoutHandler([Mock(pid=1)], {}, 1.0, None)
    cache: dict[int, Any] = limits.cache
    job: Any = ApplyResult(cache, str)
    job._worker_pid, job._time_accepted = 1, 0.001

    for _ in range(2):
        # As at a warm shutdown: with a loop of its own, which knows nothing of an earlier one.
        limits._it = None
        limits.handle_event()

    assert killed == [1]


@pytest.mark.parametrize(
    ("pool_class", "process_class"),
    [(AsynPool, AsyncProcess), (billiard_pool.Pool, BlockingProcess)],
)
def test_what_a_process_runs_is_a_class_that_the_pool_names(
    pool_class: Any, process_class: Any
) -> None:
    """``Worker``, ``after_fork``, ``on_loop_start``, ``wait_for_job``."""
    assert pool_class.Worker is process_class
    assert_signature(process_class, "after_fork", "(self)")
    assert_signature(process_class, "on_loop_start", "(self, pid)")
    called = inspect.getsource(process_class.__call__)
    order = [called.index(f"self.{name}(") for name in STARTED]
    assert order == sorted(order)
    assert "self.wait_for_job = " in inspect.getsource(process_class._make_child_methods)
    assert "job, i, fun, args, kwargs = args_" in inspect.getsource(process_class.workloop)


def test_a_pool_without_an_event_loop_is_an_attribute_as_well() -> None:
    """``TaskPool.BlockingPool``."""
    assert blocking_jobs_class_of(PreforkPool) is billiard_pool.Pool
