"""Options of a decorator whose values cannot work are refused where it stands."""

from __future__ import annotations

import re
from typing import Any

import pytest
from celery import Task
from typing_extensions import override

from tomskit.celery import AsyncCelery, async_shared_task


async def nothing() -> None: ...


def untyped(found: object) -> Any:
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 5}, "name=5: it is a text"),
        ({"queue": 5}, "queue=5: it is the name of a queue"),
        ({"rate_limit": "fast"}, "rate_limit='fast': a rate limit is a number of tasks"),
        ({"rate_limit": "5/x"}, "rate_limit='5/x': a rate limit is a number of tasks"),
        ({"time_limit": "5"}, "time_limit='5': it is a number of seconds"),
        ({"time_limit": -1}, "time_limit=-1: it is a number of seconds"),
        ({"soft_time_limit": float("nan")}, "soft_time_limit=nan: it is a number of seconds"),
        ({"max_retries": "3"}, "max_retries='3': it is a number, or None"),
        ({"max_retries": float("nan")}, "max_retries=nan: it is a number, or None"),
        ({"default_retry_delay": "5"}, "default_retry_delay='5': it is a number of seconds"),
        ({"retry_backoff": "yes"}, "retry_backoff='yes': it is True, False or a number of seconds"),
        ({"retry_backoff": float("inf")}, "retry_backoff=inf: it is True, False or a number"),
        ({"retry_backoff_max": "long"}, "retry_backoff_max='long': it is a number of seconds"),
        ({"retry_kwargs": [3]}, "retry_kwargs=[3]: it is a dict"),
        ({"autoretry_for": ValueError}, "autoretry_for=<class 'ValueError'>: it is a tuple of"),
        ({"autoretry_for": ("ValueError",)}, "autoretry_for=('ValueError',): it is a tuple of"),
        ({"dont_autoretry_for": ValueError}, "dont_autoretry_for=<class 'ValueError'>: it is"),
        (
            {"throws": (ValueError(),)},
            "throws=(ValueError(),): it is a class of errors, or a tuple",
        ),
        # isinstance, by which Celery asks, takes neither.
        (
            {"throws": [KeyError]},
            "throws=[<class 'KeyError'>]: it is a class of errors, or a tuple",
        ),
        (
            {"throws": {KeyError}},
            "throws={<class 'KeyError'>}: it is a class of errors, or a tuple",
        ),
        ({"serializer": 5}, "serializer=5: it is a text"),
    ],
)
def test_values_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    app = AsyncCelery("test", set_as_current=False)
    for decorator in (untyped(async_shared_task), untyped(app.task)):
        with pytest.raises((TypeError, ValueError), match=re.escape(f" has {message}")):
            decorator(**options)(nothing)


def test_values_of_a_base_class_are_refused() -> None:
    class Impatient(Task[..., Any]):
        autoretry_for = ValueError

    with pytest.raises(TypeError, match=re.escape("autoretry_for=<class 'ValueError'>: it is a")):
        async_shared_task(base=Impatient)(nothing)


def test_values_that_celery_takes_are_taken(app: AsyncCelery) -> None:
    options: dict[str, Any] = {
        "rate_limit": 5,
        "time_limit": 0,
        "soft_time_limit": 5,
        "max_retries": None,
        "default_retry_delay": 0.5,
        "autoretry_for": [ValueError],
        "throws": (KeyError, (OSError, EOFError)),
        "retry_backoff": "2",
        "retry_backoff_max": "600",
        "retry_kwargs": {"max_retries": 1},
    }
    task = untyped(async_shared_task)(name="many", **options)(nothing)

    assert task.delay().get() is None
    assert task.rate_limit == 5


@pytest.mark.parametrize("number", [0, 3, 2.5, float("inf"), -1])
def test_numbers_that_retries_can_be_compared_with_are_taken(
    app: AsyncCelery, number: float
) -> None:
    async def counted(self: Any) -> int:
        if self.request.retries < min(number, 2):
            raise self.retry(countdown=0)
        return int(self.request.retries)

    task = untyped(async_shared_task)(name="counted", bind=True, max_retries=number)(counted)

    assert task.delay().get() == max(0, min(number, 2))


def test_one_class_of_errors_may_be_thrown(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture
) -> None:
    async def throwing() -> None:
        raise KeyError("expected")

    task = untyped(async_shared_task)(name="throwing", throws=KeyError)(throwing)
    with pytest.raises(KeyError), caplog.at_level("INFO"):
        task.delay().get()

    assert [one.levelname for one in caplog.records if "throwing" in one.getMessage()] == ["INFO"]


def test_a_property_of_a_base_class_is_not_looked_at(app: AsyncCelery) -> None:
    class Changing(Task[..., Any]):
        @property
        @override
        def time_limit(self) -> int:  # type: ignore[override, mutable-override]
            return 5

    task = untyped(async_shared_task(base=Changing, name="changing")(nothing))

    assert task.time_limit == 5
