"""Options of a decorator that nobody reads are refused where it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import pytest
from celery import Task
from typing_extensions import override

from tomskit.celery import AsyncCelery, AsyncTask, BoundTask, async_shared_task


class Audited(Task[..., Any]):
    """As of a project that uses Celery; these are all ways to read an attribute of a task."""

    lock_expiry = 60
    unique_on: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.team_seen = self.team  # type: ignore[attr-defined]  # an option

    @override
    def after_return(self, *args: object, **kwargs: object) -> None:
        def later() -> object:
            return getattr(self, "channel", None)

        later()

    @property
    def colour(self) -> object:
        return self.shade  # type: ignore[attr-defined]  # an option

    @cached_property
    def place(self) -> object:
        return self.room  # type: ignore[attr-defined]  # an option

    @staticmethod
    def of(task: Any) -> object:
        return task.owner


class OfOurs(AsyncTask[..., Any]):
    lock_expiry = 60


async def charge(account: int) -> None: ...


def decorated_by(way: str) -> Callable[..., Any]:
    app = AsyncCelery("options", broker="memory://", set_as_current=False)
    return cast("Callable[..., Any]", app.task if way == "app.task" else async_shared_task)


@pytest.mark.parametrize("way", ["app.task", "async_shared_task"])
@pytest.mark.parametrize("base", [Audited, OfOurs, None])
@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("max_retrys", "max_retries"),
        ("quue", "queue"),
        ("autoretry", "autoretry_for"),
        ("ack_late", "acks_late"),
        ("soft_timelimit", "soft_time_limit"),
        ("binds", "bind"),
        ("every_", "every"),
    ],
)
def test_misspelt_option_is_refused(
    way: str, base: type[object] | None, option: str, meant: str
) -> None:
    options = {option: 1} if base is None else {option: 1, "base": base}

    with pytest.raises(
        TypeError,
        match=rf"task {re.escape(__name__)}\.charge has an option {option}\b.* mean {meant}\?",
    ):
        decorated_by(way)(**options)(charge)


@pytest.mark.parametrize("base", [Audited, OfOurs])
def test_attribute_of_the_class_may_be_meant(base: type[object]) -> None:
    with pytest.raises(TypeError, match=r"lock_expire\b.* mean lock_expiry\?"):
        decorated_by("app.task")(base=base, lock_expire=3)(charge)


def test_option_that_is_like_no_other_is_refused() -> None:
    with pytest.raises(TypeError, match=r"option timeout, which nobody reads: An attribute of"):
        decorated_by("app.task")(base=Audited, timeout=3)(charge)


@pytest.mark.parametrize(
    "option", ["lock_expiry", "unique_on", "team", "channel", "shade", "room", "owner"]
)
def test_what_the_class_reads_is_an_attribute(option: str) -> None:
    options = {"team": "billing", option: "value"}

    task = decorated_by("app.task")(base=Audited, **options)(charge)

    assert getattr(task, option) == "value"


def test_what_the_function_reads_is_an_attribute() -> None:
    async def read(self: BoundTask) -> object:
        return cast("Any", self).team

    task = decorated_by("app.task")(bind=True, team="billing")(read)

    assert task.team == "billing"


@pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")
@pytest.mark.parametrize("option", ["exchange", "routing_key", "delivery_mode", "priority"])
def test_what_celery_reads_is_known(option: str) -> None:
    task = decorated_by("app.task")(**{option: "1"})(charge)

    assert getattr(task, option) == "1"


def test_value_is_not_shown() -> None:
    with pytest.raises(TypeError) as caught:
        decorated_by("async_shared_task")(base=Audited, pasword="secret-word")(charge)

    assert "secret-word" not in str(caught.value)
