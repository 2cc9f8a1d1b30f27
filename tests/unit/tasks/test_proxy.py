"""The decorated name: what it knows without an app, and who may replace a method of the task."""

import asyncio
import inspect
import pickle
import pydoc
import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from typing import Any, cast
from unittest.mock import Mock, patch

import pytest
from celery import Task

from tomskit.celery import AsyncCelery, AsyncTask, BoundTask, async_shared_task
from tomskit.celery._running.context import find_app
from tomskit.errors import TaskArgumentsError

ADD = f"{__name__}.add"


@async_shared_task
async def add(a: int, b: int = 1) -> int:
    """Adds."""
    await asyncio.sleep(0)
    return a + b


@async_shared_task(bind=True)
async def bound(self: BoundTask, a: int) -> int:
    return a


@async_shared_task
async def year(day: date) -> int:
    return day.year


@async_shared_task(serializer="pickle")
async def pickled(a: int) -> int:
    return a


Call = Callable[[], object]


def registered(app: AsyncCelery) -> AsyncTask[[int, int], int]:
    return cast("AsyncTask[[int, int], int]", app.tasks[ADD])


def untyped(task: object) -> Any:
    """The task for calls that type checkers refuse."""
    return task


CALLS: dict[str, tuple[Call, Mapping[str, object]]] = {
    "delay": (lambda: add.delay(1, b=2), {}),
    "adelay": (lambda: asyncio.run(add.adelay(1, b=2)), {}),
    "apply_async": (lambda: add.apply_async((1,), {"b": 2}), {}),
    "aapply_async": (lambda: asyncio.run(add.aapply_async((1,), {"b": 2})), {}),
    "options": (lambda: add.options(priority=3).delay(1, b=2), {"priority": 3}),
    "options, adelay": (
        lambda: asyncio.run(add.options(priority=3).adelay(1, b=2)),
        {"priority": 3},
    ),
    "aapply_async with options": (
        lambda: asyncio.run(add.aapply_async((1,), {"b": 2}, priority=3)),
        {"priority": 3},
    ),
    "s": (lambda: add.s(1, b=2).delay(), {}),
    "si": (lambda: add.si(1, b=2).delay(), {}),
    "p": (lambda: untyped(add).p(b=2).delay(1), {}),
    "signature, adelay": (lambda: asyncio.run(add.s(1, b=2).adelay()), {}),
}
every_call = pytest.mark.parametrize(("call", "options"), CALLS.values(), ids=CALLS)


def test_metadata_is_there_without_an_app() -> None:
    assert isinstance(add, AsyncTask)
    assert isinstance(add, Task)
    assert add.__doc__ == "Adds."
    assert add.__name__ == "add"
    assert add.__module__ == __name__
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    assert list(inspect.signature(bound).parameters) == ["a"]
    assert inspect.iscoroutinefunction(inspect.unwrap(add))
    assert find_app() is None


def test_task_belongs_to_whichever_app_is_current(app: AsyncCelery) -> None:
    assert add.app is app
    other = AsyncCelery("other", broker="memory://")
    assert add.app is other
    app.set_current()
    assert add.app is app


def test_task_can_be_pickled(app: AsyncCelery) -> None:
    assert pickle.loads(pickle.dumps(add)) == app.tasks[ADD]


def test_documentation_can_be_rendered(app: AsyncCelery) -> None:
    page = pydoc.plain(pydoc.render_doc(type(add)))
    # Python 3.13 puts each parameter of a long signature into a line of its own.
    assert re.search(r"apply_async\([\s|]*self,[\s|]*args", page)


def test_attributes_are_set_on_the_task(app: AsyncCelery) -> None:
    add.max_retries = 17
    assert registered(app).max_retries == 17
    del add.max_retries
    assert registered(app).max_retries == 3


class TestReplacedMethods:
    """Who patches or overrides ``apply_async`` catches every call, as with Celery's own tasks."""

    @every_call
    def test_patched_apply_async_catches(
        self, app: AsyncCelery, call: Call, options: Mapping[str, object]
    ) -> None:
        with patch(f"{ADD}.apply_async") as sent:
            assert call() is sent.return_value
            assert untyped(add).apply_async is sent

        sent.assert_called_once_with((1,), {"b": 2}, **options)
        assert add.delay(1, 2).get() == 3

    @every_call
    def test_overridden_apply_async_of_the_registered_task_catches(
        self,
        app: AsyncCelery,
        monkeypatch: pytest.MonkeyPatch,
        call: Call,
        options: Mapping[str, object],
    ) -> None:
        task = registered(app)
        own = cast("Callable[..., object]", task.apply_async)
        seen: list[tuple[object, ...]] = []

        def override(
            args: tuple[object, ...] | None = None,
            kwargs: dict[str, object] | None = None,
            **options: object,
        ) -> object:
            seen.append((args, kwargs, options))
            return own(args, kwargs, **options)

        monkeypatch.setattr(task, "apply_async", override)

        assert cast("Any", call()).get() == 3
        assert seen == [((1,), {"b": 2}, options)]

    def test_overridden_apply_async_of_the_class_catches(self, app: AsyncCelery) -> None:
        with patch.object(AsyncTask, "apply_async", autospec=True) as sent:
            add.delay(1, 2)
            add.apply_async((1, 2))

        assert [call.args[1] for call in sent.call_args_list] == [(1, 2), (1, 2)]

    def test_values_are_those_of_the_call(self, app: AsyncCelery) -> None:
        with patch(f"{__name__}.year.apply_async") as sent:
            year.delay(date(2026, 1, 2))

        sent.assert_called_once_with((date(2026, 1, 2),), {})

    def test_no_value_has_to_fit_a_mock(self, app: AsyncCelery) -> None:
        with patch(f"{ADD}.apply_async") as sent:
            untyped(add).delay("x")
            asyncio.run(untyped(add).adelay("y"))

        assert [call.args for call in sent.call_args_list] == [(("x",), {}), (("y",), {})]

    def test_override_gets_values_that_must_fit(
        self, app: AsyncCelery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task = app.tasks[year.name]
        own = cast("Callable[..., object]", task.apply_async)
        monkeypatch.setattr(task, "apply_async", partial(own))

        for delay in (year.delay, year.options(priority=3).delay):
            with pytest.raises(TaskArgumentsError, match="day is '2026-01-02'"):
                untyped(delay)("2026-01-02")

    @pytest.mark.parametrize("method", ["delay", "adelay", "apply_async", "aapply_async", "apply"])
    def test_patch_ends(self, app: AsyncCelery, method: str) -> None:
        with patch(f"{ADD}.{method}"):
            pass

        assert method not in vars(registered(app))

    @pytest.mark.parametrize("method", ["apply_async", "aapply_async", "apply"])
    def test_monkeypatch_ends(
        self, app: AsyncCelery, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(f"{ADD}.{method}", Mock(return_value="caught"))
            assert getattr(add, method)((1, 2)) == "caught"

        assert method not in vars(registered(app))
        assert add.delay(1, 2).get() == add.apply((1, 2)).get() == 3

    def test_mock_may_wrap_what_it_replaces(self, app: AsyncCelery) -> None:
        with patch(f"{ADD}.apply_async", wraps=add.apply_async) as sent:
            assert add.delay(1, 2).get() == 3
            assert add.apply_async((2, 3)).get() == 5

        assert [call.args[0] for call in sent.call_args_list] == [(1, 2), (2, 3)]

    def test_patched_aapply_async_is_awaited(self, app: AsyncCelery) -> None:
        with patch(f"{ADD}.aapply_async", return_value="sent"):
            assert asyncio.run(untyped(add).aapply_async((1, 2))) == "sent"

    def test_adelay_calls_a_patched_delay(self, app: AsyncCelery) -> None:
        with patch(f"{ADD}.delay") as sent:
            asyncio.run(add.adelay(1, b=2))

        sent.assert_called_once_with(1, b=2)


class TestValues:
    """They are checked and converted once, where the call is written."""

    @pytest.mark.parametrize(
        "call",
        [
            lambda: untyped(year).delay("2026-01-02"),
            lambda: year.apply_async(("2026-01-02",)),
            lambda: year.apply(("2026-01-02",)),
            lambda: asyncio.run(untyped(year).adelay("2026-01-02")),
            lambda: asyncio.run(year.aapply_async(("2026-01-02",))),
            lambda: untyped(year.options(priority=3)).delay("2026-01-02"),
        ],
        ids=["delay", "apply_async", "apply", "adelay", "aapply_async", "options"],
    )
    def test_wire_forms_are_refused(self, app: AsyncCelery, call: Call) -> None:
        with pytest.raises(TaskArgumentsError, match="day is '2026-01-02'"):
            call()

    def test_registered_task_takes_wire_forms(self, app: AsyncCelery) -> None:
        task = app.tasks[year.name]

        assert task.apply_async(("2026-01-02",)).get() == 2026
        assert task.apply(("2026-01-02",)).get() == 2026

    def test_conversion_happens_once(self, app: AsyncCelery) -> None:
        app.conf.task_always_eager = False
        codec = year._tomskit_codec
        with (
            patch.object(app, "send_task", Mock()),
            patch.object(codec, "check", wraps=codec.check) as checks,
            patch.object(codec, "encode", wraps=codec.encode) as encodes,
        ):
            year.delay(date(2026, 1, 2))

        assert (checks.call_count, encodes.call_count) == (1, 0)

    @pytest.mark.parametrize("task", [add, pickled])
    def test_what_is_sent_is_a_plain_tuple(
        self, app: AsyncCelery, task: AsyncTask[[int], int]
    ) -> None:
        app.conf.task_always_eager = False
        with patch.object(app, "send_task", Mock()) as send_task:
            task.delay(1)
            task.apply_async((1,))

        sent = [call.args[1] for call in send_task.call_args_list]
        assert [type(args) for args in sent] == [tuple, tuple]
