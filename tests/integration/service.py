"""The application that the workers of the integration tests run, configured by environment."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from uuid import uuid4

import celery
from billiard.process import current_process
from celery import Task, current_task, shared_task
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.support import tasks
from tests.support.tasks import until_set
from tomskit.celery import (
    AsyncCelery,
    AsyncRuntime,
    AsyncTask,
    AsyncTaskRunner,
    BoundTask,
    CeleryConfig,
    async_shared_task,
    celery_context,
)
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy.database import db

logger = logging.getLogger(__name__)

app = AsyncCelery("service", config=CeleryConfig())

add = async_shared_task(name=f"{__name__}.add")(tasks.add)
total = async_shared_task(name=f"{__name__}.total")(tasks.total)
fail = async_shared_task(name=f"{__name__}.fail")(tasks.fail)
now = async_shared_task(name=f"{__name__}.now")(tasks.now)
sleep = async_shared_task(name=f"{__name__}.sleep")(tasks.sleep)
wait_for = async_shared_task(name=f"{__name__}.wait_for")(tasks.wait_for)
touch = async_shared_task(name=f"{__name__}.touch", ignore_result=True)(tasks.touch)
retry_until = async_shared_task(name=f"{__name__}.retry_until", bind=True, max_retries=5)(
    tasks.retry_until
)
autoretry = async_shared_task(
    name=f"{__name__}.autoretry",
    bind=True,
    autoretry_for=(KeyError,),
    default_retry_delay=0,
    retry_jitter=False,
    max_retries=3,
)(tasks.fail_until)


class Base(DeclarativeBase):
    """Tables of the tests."""


class User(Base):
    """A row that tasks write."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str]


async def _add_user(name: str) -> int:
    user = User(name=name)
    db.session.add(user)
    await db.session.commit()
    return user.id


@async_shared_task
async def create_tables() -> None:
    connection = await db.session.connection()
    await connection.run_sync(Base.metadata.create_all)
    await db.session.commit()


@async_shared_task
async def create_user(name: str) -> int:
    return await _add_user(name)


@shared_task
def create_user_by_runtime(name: str) -> int:
    return AsyncRuntime.run(_add_user(name))


@shared_task
def create_user_by_runner(name: str) -> int:
    return AsyncTaskRunner(_add_user).run(name)


async def _cache(key: str, value: str) -> str:
    await redis_client.set(key, value, ex=60)
    found = await redis_client.get(key)
    assert isinstance(found, str)
    return found


@async_shared_task
async def cache(key: str, value: str) -> str:
    return await _cache(key, value)


@shared_task
def cache_by_runner(key: str, value: str) -> str:
    return AsyncTaskRunner(_cache, use_db=False, use_redis=True).run(key, value)


@async_shared_task
async def echo(value: object) -> object:
    return value


def _ids(task: BoundTask) -> list[str | None]:
    return [task.request.id, celery.current_task.request.id]


@async_shared_task(bind=True)
async def identity(self: AsyncTask[[float], dict[str, object]], pause: float) -> dict[str, object]:
    """What the coroutine and everything that it starts see of the running task."""
    before = _ids(self)
    await asyncio.sleep(pause)

    async def child() -> list[str | None]:
        await asyncio.sleep(pause)
        return [*_ids(self), str(id(db.session))]

    children = await asyncio.gather(child(), child())

    def inside(session: Session) -> list[str | None]:
        return [*_ids(self), session.scalar(text("SELECT 'x'"))]

    synchronous = await db.session.run_sync(inside)
    in_thread = await asyncio.to_thread(_ids, self)
    app = celery_context.get()
    return {
        "id": self.request.id,
        "before": before,
        "children": children,
        "session": str(id(db.session)),
        "run_sync": synchronous,
        "thread": in_thread,
        "after": _ids(self),
        "app": None if app is None else app.main,
        "current_app": celery.current_app.main,
        "retries": self.request.retries,
    }


@shared_task(bind=True)
def identity_in_runtime(self: Task[..., object]) -> list[object]:
    """A plain task whose coroutine runs on the runtime."""

    async def work() -> list[object]:
        await asyncio.sleep(0)
        return [self.request.id, current_task.request.id, self.request.retries]

    return [self.request.id, *AsyncRuntime.run(work()), *AsyncTaskRunner(work).run()]


@async_shared_task(bind=True)
async def send_child(self: BoundTask) -> list[str | None]:
    """Sends two tasks from inside the coroutine."""
    await asyncio.sleep(0)
    first = report_family.delay()
    second = await report_family.adelay()
    return [self.request.id, self.request.root_id, first.id, second.id]


@async_shared_task(bind=True)
async def report_family(self: BoundTask) -> list[str | None]:
    return [self.request.parent_id, self.request.root_id]


@async_shared_task
async def log_everywhere(marker: str) -> None:
    logger.warning("%s before", marker)
    await asyncio.sleep(0.01)

    async def child() -> None:
        logger.warning("%s child", marker)

    await asyncio.gather(child())
    await asyncio.to_thread(logger.warning, "%s thread", marker)
    logging.getLogger("elsewhere").warning("%s after", marker, extra={"task_id": "mine"})


@shared_task
def log_plainly(marker: str) -> None:
    logger.warning("%s plain", marker)


# -- time limits


@async_shared_task
async def touch_later(key: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await redis_client.set(key, "touched", ex=60)


@async_shared_task(soft_time_limit=0.5)
async def catch_soft_limit(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        await asyncio.sleep(0.05)
        return "caught"
    return "slept"


@async_shared_task(soft_time_limit=0.5)
async def soft_limit_in_group(seconds: float) -> list[str]:
    """The limit arrives while the coroutine waits for a TaskGroup."""
    ended: list[str] = []

    async def child(name: str) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append(name)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child("a"))
            group.create_task(child("b"))
    except SoftTimeLimitExceeded:
        return sorted(ended)
    return ["not interrupted"]


@async_shared_task(time_limit=1)
async def hard_limit(seconds: float, marker: str) -> str:
    try:
        await asyncio.sleep(seconds)
    finally:
        await redis_client.set(marker, "cleaned up", ex=60)
    return "slept"


@async_shared_task(
    bind=True,
    autoretry_for=(KeyError,),
    max_retries=3,
    retry_kwargs={"countdown": 0},
)
async def retry_unless_given_up(self: BoundTask, give_up: bool) -> int:
    await asyncio.sleep(0)
    if give_up:
        raise self.retry(max_retries=0, exc=KeyError("given up"))
    if self.request.retries < 1:
        raise KeyError("try again")
    return self.request.retries


@async_shared_task(time_limit=1, autoretry_for=(Exception,), default_retry_delay=0)
async def hard_limit_with_autoretry(marker: str) -> None:
    await redis_client.incr(marker)
    await asyncio.sleep(30)


@async_shared_task(time_limit=1)
async def swallow_cancellation(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            await asyncio.sleep(end - time.monotonic())
        except asyncio.CancelledError:
            logger.warning("swallowed a cancellation")


@async_shared_task
async def hold_transaction(seconds: float) -> None:
    """Leaves a transaction open while it sleeps."""
    db.session.add(User(name="uncommitted"))
    await db.session.flush()
    await asyncio.sleep(seconds)


# -- sessions


@async_shared_task
async def session_identity(pause: float) -> list[object]:
    """The session object, and the server's connection that it uses."""
    session = id(db.session)
    connection = await db.session.scalar(text("SELECT CONNECTION_ID()"))
    await asyncio.sleep(pause)
    again = await db.session.scalar(text("SELECT CONNECTION_ID()"))
    assert id(db.session) == session
    assert connection == again
    return [session, connection]


@async_shared_task
async def add_then_fail(name: str) -> None:
    db.session.add(User(name=name))
    await db.session.flush()
    raise ValueError(name)


@async_shared_task
async def count_users(name: str) -> int:
    count: int | None = await db.session.scalar(
        text("SELECT COUNT(*) FROM users WHERE name = :name"), {"name": name}
    )
    return count or 0


@async_shared_task
async def query_at_both_ends(key: str, name: str) -> int:
    """Uses its session, waits until somebody sets the key, and uses it again."""
    await db.session.execute(text("SELECT 1"))
    await until_set(key)
    return await _add_user(name)


@async_shared_task
async def where() -> list[object]:
    """The process and the thread that run the coroutine."""
    return [os.getpid(), threading.current_thread().name]


@shared_task
def plain(a: int) -> int:
    return a


@async_shared_task
async def note_worker(key: str) -> str:
    """Note which worker runs it, by its main process, and run until somebody sets the key."""
    in_pool_process = current_process().name != "MainProcess"
    await redis_client.sadd(f"{key}-workers", os.getppid() if in_pool_process else os.getpid())
    return await until_set(key)


@async_shared_task
async def own_session(pause: float) -> str:
    """A name for the session object that stays unique when the object is gone."""
    session = db.session
    name = session.info.setdefault("name", uuid4().hex)
    await session.execute(text("SELECT 1"))
    await asyncio.sleep(pause)
    assert db.session is session
    assert session.info["name"] == name
    return str(name)


# -- what Celery offers around a task


@async_shared_task(bind=True)
async def report_progress(self: BoundTask, key: str) -> str:
    """Stores a state of its own, then runs until somebody sets the key."""
    self.update_state(state="PROGRESS", meta={"done": 7})
    return await until_set(key)


@async_shared_task(rate_limit="1/s")
async def at_most_one_a_second(value: int) -> int:
    return value


@async_shared_task(acks_late=True, reject_on_worker_lost=True)
async def kill_own_process_once(key: str) -> int:
    tries = int(await redis_client.incr(key))
    if tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries


@async_shared_task(queue="apart")
async def in_a_queue_of_its_own() -> str:
    return "came here"


@async_shared_task
async def send_to_the_queue() -> str | None:
    return in_a_queue_of_its_own.delay().id


@async_shared_task(bind=True)
async def send_on_commit(self: BoundTask, name: str) -> list[str | None]:
    """Sends a task as soon as the row that it needs is committed, and not before."""
    sent: list[str | None] = [self.request.id]

    def send(_: Session) -> None:
        sent.append(count_users.delay(name).id)

    event.listen(db.session.sync_session, "after_commit", send, once=True)
    db.session.add(User(name=name))
    await db.session.flush()
    assert len(sent) == 1
    await db.session.commit()
    return sent
