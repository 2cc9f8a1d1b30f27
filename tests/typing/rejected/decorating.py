"""What async_shared_task does not take."""

from __future__ import annotations

from celery import Celery
from celery.exceptions import Retry
from celery.schedules import crontab

from tomskit.celery import AsyncCelery, AsyncRuntime, BoundTask, TaskRequest, async_shared_task

# -- functions that are not coroutine functions


@async_shared_task  # E: not async
def bare(a: int) -> int:
    return a


@async_shared_task()  # E: not async
def empty(a: int) -> int:
    return a


@async_shared_task(queue="slow")  # E: not async
def with_options(a: int) -> int:
    return a


@async_shared_task(bind=True)  # E: not async
def with_bind(self: BoundTask, a: int) -> int:
    return a


async_shared_task(3)  # E: not a function

# -- options


@async_shared_task(max_retrys=3)  # E: misspelt
async def misspelt(a: int) -> None: ...


@async_shared_task(bind=True, max_retrys=3)  # E: misspelt, with bind
async def misspelt_bound(self: BoundTask, a: int) -> None: ...


@async_shared_task(bind=False, quue="slow")  # E: misspelt, with bind=False
async def misspelt_unbound(a: int) -> None: ...


@async_shared_task(max_retries="3")  # E: str for int
async def wrong_type(a: int) -> None: ...


@async_shared_task(bind=True, queue=3)  # E: int for str, with bind
async def wrong_type_bound(self: BoundTask, a: int) -> None: ...


@async_shared_task(autoretry_for=ValueError)  # E: not a tuple
async def not_a_tuple(a: int) -> None: ...


@async_shared_task(autoretry_for=("ValueError",))  # E: names instead of classes
async def names(a: int) -> None: ...


@async_shared_task(soft_time_limit="10s")  # E: str for seconds
async def not_seconds(a: int) -> None: ...


@async_shared_task(ignore_result=None)  # E: None for bool
async def not_a_flag(a: int) -> None: ...


@async_shared_task(bind="yes")  # E: bind is True or False
async def odd_bind(self: BoundTask, a: int) -> None: ...


@async_shared_task("shop.name")  # E: the name is a keyword
async def positional_name(a: int) -> None: ...


# -- bind


@async_shared_task(bind=True)  # E: no self
async def without_self(a: int) -> int:
    return a


@async_shared_task(bind=True)  # E: no parameter at all
async def without_parameters() -> int:
    return 1


@async_shared_task(bind=True)  # E: a keyword-only parameter cannot be self
async def keyword_self(*, self: BoundTask) -> int:
    return 1


# Mypy alone minds that one of the notes could be called self; `self: BoundTask, /` helps.
@async_shared_task(bind=True)  # E(not pyright, basedpyright, pyrefly, ty): self among keywords
async def keywords(self: BoundTask, a: int, **notes: str) -> int:
    return a


@async_shared_task(bind=True)  # E: self is a task, not an app
async def wrong_self(self: Celery, a: int) -> int:
    return a


@async_shared_task(bind=True)
async def members(self: BoundTask) -> int:
    self.retries()  # E: no such member
    self.retry(countdown="1")  # E: str for seconds
    self.retry(contdown=1)  # E: misspelt
    self.update_state(meta=[1])  # E: meta is a dict
    self.name = "other"  # E: read-only
    n: int = self.request.id  # E: str or None
    return n


class Incomplete:
    """Has no update_state."""

    name = "incomplete"
    max_retries = 3

    def __init__(self, request: TaskRequest) -> None:
        self.request = request

    def retry(self, **options: object) -> Retry:
        return Retry()


def not_a_bound_task(request: TaskRequest) -> None:
    task: BoundTask = Incomplete(request)  # E: update_state is missing
    other: BoundTask = AsyncRuntime  # E: no task at all
    print(task, other)


# -- classes and hooks


@async_shared_task(base=3)  # E: no class
async def no_class(a: int) -> None: ...


def short_hook(self: BoundTask, exc: Exception) -> None: ...


@async_shared_task(on_failure=short_hook)  # E: takes too few arguments
async def with_short_hook(a: int) -> None: ...


@async_shared_task(on_failure="short_hook")  # E: no function
async def with_name_of_hook(a: int) -> None: ...


@async_shared_task(base=AsyncRuntime)  # E: not async, with a base
def with_base(a: int) -> int:
    return a


# -- tasks of an app

ours = AsyncCelery("ours")


@ours.task(max_retrys=3)  # E: misspelt
async def of_app_misspelt(a: int) -> None: ...


@ours.task(max_retries="3")  # E: str for int
def of_app_wrong_type(a: int) -> None: ...


ours.task(3)  # E: not a function


@ours.task(bind=True)  # E: no self
async def of_app_without_self() -> None: ...


@ours.task
async def of_app(a: int) -> int:
    return a


@ours.task
def plain_of_app(a: int) -> int:
    return a


def calls_of_the_app() -> None:
    of_app.delay("1")  # E: str for int
    of_app.delay()  # E: a is missing
    plain_of_app.delay("1")  # E: str for int
    text: str = of_app.delay(1).get()  # E: int for str
    print(text)


# -- periodic


@async_shared_task(every=30)  # E: needs an argument
async def needy(a: int) -> None: ...


@async_shared_task(every=30)  # E: needs a keyword
async def needy_keyword(*, a: int) -> None: ...


@async_shared_task(bind=True, every=30)  # E: needs an argument beside self
async def needy_bound(self: BoundTask, a: int) -> None: ...


@async_shared_task(every=30)  # E: not async
def periodic_plain() -> None: ...


@ours.task(every=30)  # E: needs an argument
async def needy_of_app(a: int) -> None: ...


@ours.task(every=30)  # E: needs an argument
def needy_plain(a: int) -> None: ...


@async_shared_task(every="30")  # E: str for seconds
async def wrong_every() -> None: ...


@ours.task(every="30")  # E: str for seconds
async def wrong_every_of_app() -> None: ...


@async_shared_task(every=crontab)  # E: a class, not a schedule
async def class_as_every() -> None: ...


@async_shared_task(every=30)
async def periodic(a: int = 1) -> int:
    return a


def calls_of_a_periodic_task() -> None:
    periodic.delay("1")  # E: str for int
