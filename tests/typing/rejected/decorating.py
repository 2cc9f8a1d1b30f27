"""What async_shared_task does not take."""

from __future__ import annotations

from celery import Celery
from celery.exceptions import Retry

from tomskit.celery import AsyncRuntime, BoundTask, TaskRequest, async_shared_task

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
