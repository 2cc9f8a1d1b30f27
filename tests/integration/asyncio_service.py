"""The application that the workers of the asyncio pool's own tests run."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol, cast
from uuid import uuid4

import celery
import httpx
from celery import Task, shared_task, signals
from celery._state import get_current_task
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from sqlalchemy import text

from tests.support import tasks
from tests.support.tasks import plain_redis, until_set
from tomskit.celery import (
    AsyncCelery,
    AsyncRuntime,
    AsyncTask,
    AsyncTaskRunner,
    BoundTask,
    CeleryConfig,
    async_shared_task,
)
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy.database import db

logger = logging.getLogger(__name__)

app = AsyncCelery("asyncio-service", config=CeleryConfig())
app.conf.update(json.loads(os.environ.get("SETTINGS", "{}")))

add = async_shared_task(name=f"{__name__}.add")(tasks.add)
total = async_shared_task(name=f"{__name__}.total")(tasks.total)
fail = async_shared_task(name=f"{__name__}.fail")(tasks.fail)
now = async_shared_task(name=f"{__name__}.now")(tasks.now)
sleep = async_shared_task(name=f"{__name__}.sleep")(tasks.sleep)
wait_for = async_shared_task(name=f"{__name__}.wait_for")(tasks.wait_for)
touch = async_shared_task(name=f"{__name__}.touch", ignore_result=True)(tasks.touch)
retry_until = async_shared_task(name=f"{__name__}.retry_until", bind=True)(tasks.retry_until)
autoretry = async_shared_task(
    name=f"{__name__}.autoretry",
    bind=True,
    autoretry_for=(KeyError,),
    default_retry_delay=0,
    retry_jitter=False,
    max_retries=2,
)(tasks.fail_until)


# -- signals


def _current_id() -> str | None:
    task = cast("Task[..., object] | None", get_current_task())
    return None if task is None else task.request.id


def _log_signal(signal: str, task_id: str | None) -> None:
    if "LOG_SIGNALS" in os.environ:
        logger.warning("signal %s of %s, current %s", signal, task_id, _current_id())


@signals.worker_process_init.connect
def _on_worker_process_init(**_: object) -> None:
    _log_signal("worker_process_init", None)
    if "COLLECTOR_THRESHOLD" in os.environ:
        gc.set_threshold(int(os.environ["COLLECTOR_THRESHOLD"]))


@signals.worker_process_shutdown.connect
def _on_worker_process_shutdown(pid: int, **_: object) -> None:
    assert pid == os.getpid()
    _log_signal("worker_process_shutdown", None)


@signals.worker_shutdown.connect
def _on_worker_shutdown(**_: object) -> None:
    if "LOG_SIGNALS" in os.environ:
        logger.warning("collector at the end: %s, %s", gc.get_threshold()[0], gc.get_freeze_count())


@signals.task_prerun.connect
def _on_task_prerun(task_id: str, **_: object) -> None:
    _log_signal("task_prerun", task_id)


@signals.task_postrun.connect
def _on_task_postrun(task_id: str, state: str | None, **_: object) -> None:
    _log_signal(f"task_postrun({state})", task_id)


@signals.task_success.connect
def _on_task_success(sender: Task[..., object], **_: object) -> None:
    _log_signal("task_success", sender.request.id)


@signals.task_failure.connect
def _on_task_failure(task_id: str, exception: Exception, **_: object) -> None:
    _log_signal(f"task_failure({type(exception).__name__})", task_id)


@signals.task_retry.connect
def _on_task_retry(request: Context, **_: object) -> None:
    _log_signal("task_retry", request.id)


@signals.task_revoked.connect
def _on_task_revoked(request: Context, terminated: bool, **_: object) -> None:
    _log_signal(f"task_revoked({terminated=})", request.id)


# -- what tasks return and raise


@async_shared_task(bind=True)
async def retry_in(self: BoundTask, seconds: float) -> list[object]:
    await asyncio.sleep(0)
    if not self.request.retries:
        raise self.retry(countdown=seconds)
    return [self.request.id, self.request.retries]


@async_shared_task(bind=True)
async def fail_when_retried(self: BoundTask, key: str) -> None:
    if self.request.retries:
        raise LookupError("the end")
    retry = self.retry(throw=False, countdown=0)
    await until_set(key)
    raise retry


@async_shared_task(bind=True)
async def replace(self: AsyncTask[[int], int], a: int) -> int:
    await asyncio.sleep(0)
    return self.replace(add.s(a, 1))


@async_shared_task
async def reject() -> None:
    await asyncio.sleep(0)
    raise Reject("for good", requeue=False)


@async_shared_task(bind=True, acks_late=True)
async def reject_once(self: AsyncTask[[str], object], key: str) -> object:
    if await redis_client.incr(key) == 1:
        raise Reject("once more", requeue=True)
    return (self.request.delivery_info or {}).get("redelivered")


@async_shared_task(bind=True)
async def ignore(self: BoundTask) -> None:
    self.update_state(state="ITS OWN", meta={})
    await asyncio.sleep(0)
    raise Ignore


@async_shared_task
async def remember(value: str, key: str) -> None:
    await redis_client.set(key, value, ex=60)


@async_shared_task
async def remember_error(request: Context, exc: BaseException, traceback: object, key: str) -> None:
    await asyncio.sleep(0)
    await redis_client.set(key, f"{request.id} {type(exc).__name__}", ex=60)


# -- when they run


@async_shared_task(rate_limit="2/s")
async def two_a_second() -> float:
    return time.monotonic()


@async_shared_task(rate_limit="1/h")
async def one_an_hour(value: int) -> int:
    return value


@async_shared_task
async def append(key: str, value: str) -> None:
    await redis_client.rpush(key, value)


@async_shared_task
async def wait_for_and_fail(key: str) -> None:
    raise ValueError(await until_set(key))


@async_shared_task(acks_late=True)
async def wait_for_with_late_ack(key: str) -> str:
    return await until_set(key)


# -- how they are ended


@async_shared_task(soft_time_limit=20, time_limit=20)
async def sleep_within_limits(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@async_shared_task
async def clean_up(key: str) -> str:
    """Waits for ever, and for a moment more when it is cancelled."""
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)
        await redis_client.set(key, "cleaned up", ex=60)
    return "slept"


@async_shared_task(bind=True)
async def tell_that_it_cleans_up(self: BoundTask, key: str) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        self.update_state(state="CLEANING UP", meta={})
        await redis_client.set(key, "cleaned up", ex=60)


@async_shared_task
async def send_when_cancelled(sent_key: str, key: str) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        touch.delay(sent_key)
        await redis_client.set(key, "cleaned up", ex=60)


@async_shared_task
async def return_when_cancelled(key: str) -> str:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await redis_client.set(key, "cancelled", ex=60)
    return "returned normally"


@async_shared_task
async def swallow_cancellation() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            logger.warning("swallowed a cancellation")


@async_shared_task(soft_time_limit=0.3)
async def catch_soft_limit() -> str:
    try:
        await asyncio.sleep(3600)
    except SoftTimeLimitExceeded:
        await asyncio.sleep(0.01)
        return "caught"
    return "slept"


# -- who they are


_arrived = 0
_all_there = asyncio.Event()


async def _all_at_once(tasks: int) -> None:
    """Waits until so many tasks wait here, which takes that they all run at the same time."""
    global _arrived  # noqa: PLW0603 (they share this process)
    _arrived += 1
    if _arrived == tasks:
        _all_there.set()
    await _all_there.wait()


_format = logging.Formatter("%(task_id)s")


def _whose_log() -> str:
    record = logger.makeRecord(__name__, logging.INFO, __file__, 1, "", (), None)
    return _format.format(record).strip()


def _ids(task: BoundTask) -> set[str | None]:
    current = celery.current_task
    return {task.request.id, current.request.id, AsyncCelery.task_id_context.get(), _whose_log()}


@async_shared_task(bind=True)
async def identity(self: BoundTask, tasks: int) -> list[str]:
    """Every id that the coroutine and its children see, among so many tasks that interleave."""
    seen = _ids(self)
    await _all_at_once(tasks)
    for pause in (0, 0.01, 0, 0.02):
        seen |= _ids(self)
        await asyncio.sleep(pause)

    async def child() -> None:
        nonlocal seen
        seen |= _ids(self)
        await asyncio.sleep(0.01)
        seen |= _ids(self)

    await asyncio.gather(child(), child())
    return sorted(str(one) for one in seen | _ids(self))


@async_shared_task(bind=True)
async def identity_in_thread(self: BoundTask) -> list[str]:
    return sorted(str(one) for one in await asyncio.to_thread(_ids, self))


@async_shared_task
async def own_session(tasks: int) -> str:
    """A name for the session object that stays unique when the object is gone."""
    session = db.session
    name = session.info.setdefault("name", uuid4().hex)
    await _all_at_once(tasks)
    await asyncio.sleep(0.01)
    assert db.session is session
    assert session.info["name"] == name
    return str(name)


@async_shared_task
async def select(key: str) -> int:
    """Holds a connection to the database until a key is set."""
    number = await db.session.scalar(text("SELECT 7"))
    await until_set(key)
    assert isinstance(number, int)
    return number


@async_shared_task
async def block_redis(key: str) -> bool:
    """Holds a connection to Redis until there is an item in a list for it."""
    return await cast("_Redis", redis_client).blpop([key], 0) is not None


class _Redis(Protocol):
    """What redis-py's types say is not awaitable, perhaps."""

    async def blpop(self, keys: list[str], timeout: float) -> object: ...


# -- plain tasks


@shared_task
def plain_thread() -> list[object]:
    return [threading.current_thread().name, threading.current_thread() is threading.main_thread()]


@shared_task
def plain_add(a: int, b: int) -> int:
    return a + b


_at_once = 0
_most_at_once = 0
_count_lock = threading.Lock()


@contextmanager
def _counted() -> Generator[None]:
    global _at_once, _most_at_once  # noqa: PLW0603 (they share this process)
    with _count_lock:
        _at_once += 1
        _most_at_once = max(_at_once, _most_at_once)
    try:
        yield
    finally:
        with _count_lock:
            _at_once -= 1


@shared_task
def plain_wait_for(key: str) -> int:
    """Runs until somebody sets the key; how many of these have run at once at the most."""
    with _counted(), plain_redis(app.config) as client:
        while client.get(key) is None:
            time.sleep(0.02)
        return _most_at_once


@shared_task(bind=True)
def plain_retry_until(self: Task[..., object], attempt: int) -> list[object]:
    if self.request.retries < attempt:
        raise self.retry(countdown=0)
    return [self.request.id, self.request.retries]


@async_shared_task
async def threads_of_delay(count: int) -> list[str]:
    """The threads in which Celery publishes what a coroutine sends with ``.delay``."""
    seen: list[str] = []

    def note(**_: object) -> None:
        seen.append(threading.current_thread().name)

    signals.before_task_publish.connect(note, weak=False)
    try:
        sent = [add.delay(number, number) for number in range(count)]
    finally:
        signals.before_task_publish.disconnect(note)
    assert [await result.aget(disable_sync_subtasks=False) for result in sent] == [
        2 * number for number in range(count)
    ]
    return seen


@shared_task
def plain_send(a: int, b: int) -> str:
    return str(add.delay(a, b).id)


@shared_task(bind=True)
def plain_with_runtime(self: Task[..., object]) -> list[object]:
    return [self.request.id, *AsyncRuntime.run(_session_and_id())]


@shared_task(bind=True)
def plain_with_runner(self: Task[..., object]) -> list[object]:
    return [self.request.id, *AsyncTaskRunner(_session_and_id).run()]


async def _session_and_id() -> list[object]:
    await asyncio.sleep(0)
    return [_current_id(), await db.session.scalar(text("SELECT 7"))]


# -- who blocks the loop


@async_shared_task
async def block_the_loop(seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251 (what a task should not do)
    return "blocked"


async def _block_in_child(seconds: float) -> None:
    await asyncio.sleep(0)
    time.sleep(seconds)  # noqa: ASYNC251 (what a task should not do)


@async_shared_task
async def block_in_gather(seconds: float) -> str:
    await asyncio.gather(asyncio.sleep(0.01), _block_in_child(seconds))
    return "blocked"


@shared_task
def plain_block(seconds: float) -> str:
    time.sleep(seconds)
    return "blocked its own thread"


def _block_in_session(_: object, seconds: float) -> None:
    time.sleep(seconds)


@async_shared_task
async def block_in_run_sync(seconds: float) -> str:
    await db.session.run_sync(_block_in_session, seconds)
    return "blocked"


def _block_in_callback(seconds: float) -> None:
    time.sleep(seconds)


@async_shared_task
async def block_in_callback(seconds: float) -> str:
    asyncio.get_running_loop().call_soon(_block_in_callback, seconds)
    await asyncio.sleep(0.01)
    return "blocked"


# -- Python's collector of reference cycles


@async_shared_task
async def collector() -> list[int]:
    return [gc.get_threshold()[0], gc.get_freeze_count()]


@async_shared_task
async def stop_collector() -> None:
    """Collect no more, and not when the process has grown either."""
    gc.disable()
    first, second, third = gc.get_threshold()
    gc.set_threshold(first + 1, second, third)
    gc.collect()


@async_shared_task
async def collect() -> int:
    """Let the collector go on, and tell how many objects it has found in cycles."""
    gc.enable()
    return gc.collect()


async def _fail() -> None:
    await asyncio.sleep(0)
    raise LookupError("the first error")


@async_shared_task
async def fail_because() -> None:
    try:
        await _fail()
    except LookupError as exc:
        raise ValueError("the second error") from exc


@async_shared_task
async def fail_together() -> None:
    async with asyncio.TaskGroup() as children:
        children.create_task(_fail())
        children.create_task(_fail())


@async_shared_task
async def fail_after_another() -> None:
    first: Exception | None = None
    try:
        await _fail()
    except Exception as exc:  # noqa: BLE001 (kept, as by code that tries again)
        first = exc
    raise RuntimeError(repr(first))


@async_shared_task(soft_time_limit=0.1)
async def exceed_soft_limit() -> None:
    await asyncio.sleep(3600)


@async_shared_task(bind=True)
async def retry_because(self: BoundTask) -> int:
    try:
        await _fail()
    except LookupError as exc:
        if not self.request.retries:
            raise self.retry(exc=exc, countdown=0) from exc
    return self.request.retries


@async_shared_task(bind=True, autoretry_for=(LookupError,), default_retry_delay=0, max_retries=1)
async def autoretry_to_the_end(self: BoundTask) -> None:
    await _fail()


@async_shared_task
async def drop_client() -> None:
    """Make an HTTP client, which is a cycle with a TLS context, and drop it."""
    client = httpx.AsyncClient()
    await asyncio.sleep(0.01)
    assert not client.is_closed
