"""An application whose tasks have classes of their own, and of other packages."""

# Classes as projects have them that use Celery, whose types know no hook that is awaited.
# mypy: disable-error-code="override, explicit-override, import-untyped, misc"
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
from typing import Any, cast

from celery import Task
from celery.utils.log import get_task_logger
from celery.worker.request import Request
from celery_once import QueueOnce
from celery_singleton import Singleton
from pydantic import BaseModel
from sqlalchemy import text
from typing_extensions import override

from tests.support.tasks import until_set
from tomskit.celery import AsyncCelery, AsyncTask, BoundTask, CeleryConfig, async_shared_task
from tomskit.sqlalchemy.database import db


class Note(BaseModel):
    text: str
    prices: dict[str, int]


class OfTheApp(Task[..., Any]):
    """What all tasks have in common."""

    async def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        await note(self, f"before_start {args} {kwargs}")


logger = get_task_logger(__name__)
config = CeleryConfig()
app = AsyncCelery("task-classes-service", config=config, task_cls=OfTheApp)
redis_url = str(app.conf.result_backend)
app.conf.singleton_backend_url = redis_url
app.conf.ONCE = {
    "backend": "celery_once.backends.Redis",
    "settings": {"url": redis_url, "default_timeout": 600},
}


async def note(task: BoundTask | Task[..., Any], words: str) -> None:
    """Write into the database, in a session that only a task's scopes have."""
    statement = text("insert into users (name) values (:name)")
    await db.session.execute(statement, {"name": f"{words} {task.request.retries}"})
    await db.session.commit()


class Noted(OfTheApp):
    """Hooks that are awaited, and one that is not."""

    colour = "blue"

    def __init__(self) -> None:
        self.successes = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        return super().__call__(*args, **kwargs)

    async def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        await note(self, f"on_success {retval}")

    async def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        await note(self, f"on_retry {exc!r}")

    async def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        await note(self, f"on_failure {exc!r}")

    def after_return(self, status: str, retval: Any, task_id: str, *rest: Any) -> None:
        self.successes += status == "SUCCESS"


@async_shared_task(base=Noted, bind=True, autoretry_for=(KeyError,), default_retry_delay=0)
async def noted(self: BoundTask, fail: str | None = None) -> list[object]:
    if fail == "once" and self.request.retries == 0:
        raise KeyError(fail)
    if fail == "always":
        raise LookupError(fail)
    task: Any = self
    return [task.colour, task.successes]


async def never(self: BoundTask, *rest: object) -> None:
    await until_set("never")


@async_shared_task(on_success=never, time_limit=1)
async def hanging() -> int:
    return 1


class OwnRequest(Request):
    """A request of the worker's, which a task class may have."""

    @override
    def on_accepted(self, pid: str, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        print(f"own request of {self.task_name}", flush=True)


class WithRequest(OfTheApp):
    Request = f"{__name__}:OwnRequest"


@async_shared_task(base=WithRequest)
async def with_request(n: int) -> int:
    return n


@app.task
async def of_app(n: int) -> int:
    await asyncio.sleep(0)
    return n


@app.task
def plain(n: int) -> int:
    return n


class Charge(AsyncTask[[int], int]):
    """A task that is a class."""

    name = f"{__name__}.charge"

    async def run(self, cents: int) -> int:
        await note(self, f"charge {cents}")
        return cents


app.register_task(Charge())


async def released(key: str) -> str:
    await until_set(key)
    return "released"


@async_shared_task(base=Singleton)
async def single(key: str, word: Note) -> str:
    return await released(key)


@async_shared_task(base=Singleton, unique_on=["key"], lock_expiry=600)
async def single_by_key(key: str, n: int) -> str:
    return await released(key)


@async_shared_task(base=QueueOnce, once={"graceful": True, "keys": ["key"]})
async def once(key: str, word: Note) -> str:
    return await released(key)


def call_collected(task: Any, calls: list[tuple[str, int]]) -> None:
    task(calls)


class Collected(Task[..., Any]):
    """Runs once for three calls, by the means that celery-batches uses."""

    def Strategy(self, task: Any, app: Any, consumer: Any) -> object:
        waiting: list[Request] = []

        def receive(message: Any, body: object, ack: Any, reject: Any, *_: object) -> None:
            made: Any = Request
            waiting.append(made(message, app=app, task=task, on_ack=ack, on_reject=reject))
            if len(waiting) == 3:
                requests = waiting.copy()
                waiting.clear()
                calls = [(request.id, request.args[0]) for request in cast("Any", requests)]

                def accepted(pid: int, when: float) -> None:
                    for request in requests:
                        request.acknowledge()

                consumer.pool.apply_async(
                    call_collected, (self, calls), accept_callback=accepted, callback=print
                )

        return receive


class Taken(Task[..., Any]):
    """Acknowledges a message, and fails before it gives it to the pool."""

    def Strategy(self, task: Any, app: Any, consumer: Any) -> object:
        def receive(message: Any, body: object, ack: Any, *_: object) -> None:
            ack(logger, consumer.connection_errors)
            raise LookupError("nowhere to be put")

        return receive


@async_shared_task(base=Taken)
async def taken() -> None: ...


def answer(calls: list[tuple[str, int]]) -> None:
    for task_id, number in calls:
        app.backend.mark_as_done(task_id, number * len(calls))


@async_shared_task(base=Collected)
async def collected(calls: list[tuple[str, int]]) -> None:
    await note(collected, f"collected {sorted(number for _, number in calls)}")
    if calls[0][1] < 0:
        raise LookupError("in collected calls")
    answer(calls)


@app.task(base=Collected)
def plain_collected(calls: list[tuple[str, int]]) -> None:
    answer(calls)


@async_shared_task
async def send(task: str, key: str) -> list[str | None]:
    """Send a task twice, with ``delay`` and with ``adelay``."""
    found: Any = {"single": single, "single_by_key": single_by_key, "once": once}[task]
    word: object = 1 if task == "single_by_key" else Note(text="é", prices={"b": 1, "a": 2})
    return [found.delay(key, word).id, (await found.adelay(key, word)).id]
