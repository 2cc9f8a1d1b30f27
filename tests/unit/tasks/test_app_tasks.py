# Classes as projects have them that use Celery, whose types know no hook that is awaited.
# mypy: disable-error-code="override, explicit-override, mutable-override"
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
"""Tasks that an app makes: its decorator, its task class, and what it refuses."""

import asyncio
import functools
import pickle
from collections.abc import AsyncGenerator
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest
from celery import Celery, Task, shared_task
from pydantic import BaseModel

from tests.support.settings import MakeApp
from tomskit.celery import AsyncCelery, AsyncTask, BoundTask, async_shared_task
from tomskit.errors import ConfigurationError

numbers = count()


class Price(BaseModel):
    cents: int


class Noted(Task[..., Any]):
    """What a project gives Celery as ``task_cls``."""

    colour = "blue"
    calls: list[str]

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls.append("call")
        return super().__call__(*args, **kwargs)

    async def on_success(self, *args: object) -> None:
        await asyncio.sleep(0)
        self.calls.append("on_success")


class NotedAsync(AsyncTask[..., Any]):
    calls: list[str]

    def __init__(self) -> None:
        self.calls = []

    async def on_success(self, *args: object) -> None:
        await asyncio.sleep(0)
        self.calls.append("on_success")


def untyped(found: object) -> Any:
    return found


async def doubled(price: Price) -> Price:
    await asyncio.sleep(0)
    return Price(cents=2 * price.cents)


class TestDecorator:
    def test_makes_an_async_task_of_a_coroutine_function(self, app: AsyncCelery) -> None:
        @app.task
        async def bare(price: Price) -> Price:
            """Doubles."""
            return await doubled(price)

        @app.task(name="app.options", max_retries=7, queue="slow")
        async def with_options(price: Price) -> Price:
            return await doubled(price)

        @app.task(bind=True, name="app.bound")
        async def bound(self: BoundTask, price: Price) -> str:
            return f"{self.name} {price.cents}"

        for task in (bare, with_options):
            assert task.delay(Price(cents=2)).get() == Price(cents=4)
            assert asyncio.run(task.adelay(Price(cents=2))).get() == Price(cents=4)
        assert bound.delay(Price(cents=2)).get() == "app.bound 2"
        assert with_options.max_retries == 7
        assert bare.__doc__ == "Doubles."
        assert app.tasks[f"{__name__}.bare"] == bare
        assert pickle.loads(pickle.dumps(with_options)).name == "app.options"

    def test_makes_celerys_task_of_a_plain_function(self, app: AsyncCelery) -> None:
        @app.task
        def bare(n: int) -> int:
            return 2 * n

        @app.task(bind=True, name="app.plain")
        def bound(self: Task[..., Any], n: int) -> str:
            return f"{self.name} {n}"

        assert not isinstance(bare, AsyncTask)
        assert bare.delay(2).get() == 4
        assert bound.delay(2).get() == "app.plain 2"

    def test_belongs_to_its_app(self, app: AsyncCelery, make_app: MakeApp) -> None:
        other = make_app()

        @other.task(name="app.others")
        async def task(n: int) -> int:
            return n

        assert untyped(task).app is other
        assert app.tasks["app.others"].app is app
        assert untyped(task).app is other

    @pytest.mark.parametrize("options", [{"lazy": False}, {"shared": False}])
    def test_has_celerys_options(self, app: AsyncCelery, options: Any) -> None:
        task = untyped(app).task(name=f"app.{next(iter(options))}", **options)(doubled)

        assert task.delay(Price(cents=2)).get() == Price(cents=4)
        other = Celery("other", broker="memory://", set_as_current=False)
        assert (task.name in other.tasks) is ("lazy" in options)

    def test_refuses_celerys_conversion(self, app: AsyncCelery) -> None:
        with pytest.raises(ConfigurationError, match="pydantic=True"):
            app.task(name="app.pydantic", pydantic=True)(doubled)

    def test_converts_for_plain_functions_as_celery_does(self, app: AsyncCelery) -> None:
        @app.task(pydantic=True)
        def plain(price: Price) -> Price:
            return Price(cents=2 * price.cents)

        assert untyped(plain).delay({"cents": 2}).get() == {"cents": 4}

    @pytest.mark.parametrize("found", [3, "x", functools.partial(print)])
    def test_takes_a_function_with_a_name(self, app: AsyncCelery, found: object) -> None:
        with pytest.raises(TypeError, match=r"takes a function|has no __name__"):
            untyped(app).task(found)
        with pytest.raises(TypeError, match=r"takes a function|has no __name__"):
            untyped(app).task(name="app.wrong")(found)

    def test_replaced_method_catches_calls(self, app: AsyncCelery) -> None:
        task = app.task(name="app.patched", base=Noted)(doubled)

        with patch.object(task, "apply_async") as sent:
            task.delay(Price(cents=2))
            asyncio.run(task.adelay(Price(cents=3)))

        assert [call.args for call in sent.call_args_list] == [
            ((Price(cents=2),), {}),
            ((Price(cents=3),), {}),
        ]
        assert task.delay(Price(cents=2)).get() == Price(cents=4)

    def test_takes_one_function(self, app: AsyncCelery) -> None:
        with pytest.raises(TypeError, match="one function"):
            untyped(app).task(doubled, doubled)


class TestTaskClass:
    @pytest.mark.parametrize("task_cls", [Noted, f"{__name__}:Noted", f"{__name__}.Noted"])
    def test_is_that_of_all_tasks(self, make_app: MakeApp, task_cls: object) -> None:
        app = make_app(task_cls=task_cls, task_always_eager=True)
        app.set_current()
        tasks = [
            async_shared_task(name=f"class.shared.{next(numbers)}")(doubled),
            app.task(name="class.of_app")(doubled),
        ]

        @app.task(name="class.plain")
        def plain(n: int) -> int:
            return n

        for task in tasks:
            assert task.delay(Price(cents=2)).get() == Price(cents=4)
            assert untyped(task).colour == "blue"
            assert untyped(task).calls == ["call", "on_success"]
        assert plain.delay(1).get() == 1
        assert untyped(plain).calls == ["call", "on_success"]

    def test_may_be_set_later(self, make_app: MakeApp) -> None:
        app = make_app(task_always_eager=True)
        untyped(app).Task = Noted
        task = app.task(name="class.later")(doubled)

        assert task.delay(Price(cents=2)).get() == Price(cents=4)
        assert untyped(task).calls == ["call", "on_success"]

    def test_may_be_subclassed(self, make_app: MakeApp) -> None:
        app = make_app(task_cls=Noted, task_always_eager=True)
        of_app: Any = app.Task

        class Derived(of_app):  # type: ignore[misc, no-any-unimported]
            async def on_success(self, *args: object) -> None:
                await untyped(super()).on_success(*args)
                self.calls.append("derived")

        task = app.task(name="class.derived", base=Derived)(doubled)

        task.delay(Price(cents=2))
        assert untyped(task).calls == ["call", "on_success", "derived"]

    def test_base_goes_before(self, make_app: MakeApp) -> None:
        app = make_app(task_cls=Noted, task_always_eager=True)
        task = app.task(name="class.base", base=NotedAsync)(doubled)

        task.delay(Price(cents=2))
        assert untyped(task).calls == ["on_success"]

    def test_is_another_one_in_another_app(self, make_app: MakeApp) -> None:
        async_shared_task(name="class.two_apps")(doubled)
        first, second = make_app(task_cls=Noted), make_app(task_cls=NotedAsync)

        assert isinstance(first.tasks["class.two_apps"], Noted)
        assert isinstance(second.tasks["class.two_apps"], NotedAsync)
        assert not isinstance(second.tasks["class.two_apps"], Noted)

    def test_async_class_is_not_for_plain_functions(self, make_app: MakeApp) -> None:
        app = make_app(task_cls=NotedAsync, task_always_eager=True)
        task = app.task(name="class.async")(doubled)

        assert task.delay(Price(cents=2)).get() == Price(cents=4)
        assert untyped(task).calls == ["on_success"]
        assert not isinstance(app.tasks["celery.backend_cleanup"], AsyncTask)
        with pytest.raises(ConfigurationError, match=r"class\.wrong is a plain function"):
            app.task(name="class.wrong")(abs)

    def test_is_pickled_with_the_app(self) -> None:
        app = AsyncCelery("pickled", task_cls=Noted, set_as_current=False)

        copy = pickle.loads(pickle.dumps(app))
        assert issubclass(copy.Task, Noted)


class TestRefusals:
    def test_shared_task_of_a_coroutine_function(self, make_app: MakeApp) -> None:
        shared_task(name="refused.shared")(doubled)
        app = make_app()

        # At each use: an app that lacks some of its tasks is none.
        for _ in range(2):
            with pytest.raises(
                ConfigurationError, match=r"refused\.shared is async def.*@async_shared_task"
            ):
                _ = app.tasks

    def test_shared_task_with_an_app_that_is_complete(self, app: AsyncCelery) -> None:
        app.finalize()

        with pytest.raises(ConfigurationError, match="async def"):
            shared_task(name="refused.later")(doubled)

    def test_shared_generator(self, app: AsyncCelery) -> None:
        async def numbers(n: int) -> AsyncGenerator[int]:
            yield n

        app.finalize()
        with pytest.raises(ConfigurationError, match="async def"):
            shared_task(name="refused.generator")(numbers)

    def test_task_of_a_plain_app(self, make_app: MakeApp) -> None:
        plain = Celery("plain", set_as_current=False)
        plain.task(name="refused.of_another")(doubled)

        with pytest.raises(ConfigurationError, match=r"refused\.of_another"):
            make_app().finalize()
