# Classes as projects have them that use Celery, whose types know no hook that is awaited.
# mypy: disable-error-code="override, explicit-override, mutable-override"
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
"""Task classes of users: what they override is called, and what does not fit is refused."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import date
from itertools import count
from typing import Any
from unittest.mock import Mock, patch

import pytest
from celery import Celery, Task
from pydantic import BaseModel

from tomskit.celery import AsyncCelery, AsyncTask, BoundTask, TypedResult, async_shared_task
from tomskit.celery._tasks.body import runs_lean
from tomskit.errors import ConfigurationError, NotACoroutineFunctionError, TaskArgumentsError


class Price(BaseModel):
    cents: int


class Audited(Task[..., Any]):
    """A class like those of a project that uses Celery."""

    abstract = True
    colour = "blue"
    max_retries = 7
    calls: list[object]

    def __init__(self) -> None:
        super().__init__()
        self.calls = [("init", self.name)]

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls.append(("call", args, kwargs))
        return super().__call__(*args, **kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        self.calls.append(("apply_async", args, kwargs))
        return super().apply_async(args, kwargs, **options)

    def delay(self, *args: object, **kwargs: object) -> Any:
        self.calls.append(("delay", args, kwargs))
        return super().delay(*args, **kwargs)


class Running(Task[..., Any]):
    """Its ``__call__`` goes to the body by itself."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.run(*args, **kwargs)


class Plain:
    """No task class, only methods for one."""

    colour = "green"

    def doubled(self, n: int) -> int:
        return 2 * n


class OfOurs(AsyncTask[..., Any]):
    colour = "red"

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        options.setdefault("priority", 3)
        return super().apply_async(args, kwargs, **options)


class Adding(AsyncTask[[int], int]):
    name = "bases.adding"

    async def run(self, number: int) -> int:
        return number + 1


class InFront(Adding):
    """Does something of its own before the coroutine runs."""

    name = "bases.in_front"

    def run(self, number: int) -> Any:
        return super().run(10 * number)


class Synchronous(AsyncTask[[int], int]):
    """Has no coroutine at all."""

    name = "bases.synchronous"

    def run(self, number: int) -> Any:
        return number - 1


numbers = count()


def untyped(found: object) -> Any:
    return found


def attribute(task: object, name: str) -> Any:
    return getattr(task, name)


async def cheapest(day: date, prices: list[Price]) -> Price:
    await asyncio.sleep(0)
    return min(prices, key=lambda price: price.cents)


DAY, PRICES = date(2026, 1, 2), [Price(cents=3), Price(cents=2)]
WIRE = (DAY, [{"cents": 3}, {"cents": 2}])


def make_shared(base: type) -> AsyncTask[[date, list[Price]], Price]:
    return async_shared_task(name=f"bases.{next(numbers)}", base=base)(cheapest)


Call = Callable[[AsyncTask[[date, list[Price]], Price]], TypedResult[Price]]

CALLS: dict[str, Call] = {
    "apply_async": lambda task: task.apply_async((DAY, PRICES)),
    "options": lambda task: task.options(priority=3).delay(DAY, PRICES),
    "s": lambda task: task.s(DAY, PRICES).delay(),
    "adelay": lambda task: asyncio.run(task.adelay(DAY, PRICES)),
    "aapply_async": lambda task: asyncio.run(task.aapply_async((DAY, PRICES))),
    "signature, adelay": lambda task: asyncio.run(task.s(DAY, PRICES).adelay()),
}


class TestOverrides:
    def test_come_first_and_reach_the_task(self, app: AsyncCelery) -> None:
        task = make_shared(Audited)

        assert task.delay(DAY, PRICES).get() == Price(cents=2)

        assert attribute(task, "calls") == [
            ("init", task.name),
            ("delay", (DAY, PRICES), {}),
            # What is sent, which the hooks in the worker get too.
            ("apply_async", WIRE, {}),
            ("call", WIRE, {}),
        ]

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_apply_async_is_part_of_every_call(self, app: AsyncCelery, call: Call) -> None:
        task = make_shared(Audited)

        assert call(task).get() == Price(cents=2)

        assert ("apply_async", WIRE, {}) in attribute(task, "calls")

    def test_arguments_are_checked_before(self, app: AsyncCelery) -> None:
        task = make_shared(Audited)

        with pytest.raises(TaskArgumentsError, match="day is 'x'"):
            attribute(task, "delay")("x", PRICES)
        with pytest.raises(TaskArgumentsError, match=r"prices: .* is missing"):
            task.apply_async((DAY,))

        assert not [call for call in attribute(task, "calls") if call[0] == "apply_async"]

    @pytest.mark.parametrize("base", [Running, Plain, OfOurs, Task, AsyncTask])
    def test_of_every_kind_of_class(self, app: AsyncCelery, base: type) -> None:
        task = make_shared(base)

        assert isinstance(task, base)
        assert isinstance(task, AsyncTask)
        assert task.delay(DAY, PRICES).get() == Price(cents=2)
        assert task(DAY, PRICES) == Price(cents=2)

    def test_celerys_own_class_is_none_of_the_apps(self) -> None:
        app = AsyncCelery("bases", broker="memory://", task_always_eager=True, task_cls=Audited)

        def makes(base: type) -> AsyncTask[[date, list[Price]], Price]:
            return app.task(name=f"bases.{next(numbers)}", base=base)(cheapest)

        task, other = makes(Task), makes(AsyncTask)

        assert task.delay(DAY, PRICES).get() == other.delay(DAY, PRICES).get() == Price(cents=2)
        assert attribute(other, "colour") == "blue"
        assert not hasattr(task, "colour")

    def test_direct_calls_give_the_value_itself(self, app: AsyncCelery) -> None:
        task = make_shared(Audited)

        @async_shared_task(base=Audited)
        async def recursive(n: int) -> Price:
            if n == 0:
                return Price(cents=0)
            inner = await asyncio.to_thread(recursive, n - 1)
            return Price(cents=inner.cents + 1)

        assert task(DAY, PRICES) == Price(cents=2)
        assert recursive(2) == recursive.delay(2).get() == Price(cents=2)

    def test_base_of_a_plain_app(self) -> None:
        Celery("plain", broker="memory://", task_always_eager=True).set_current()
        task = make_shared(Audited)

        assert task.delay(DAY, PRICES).get() == Price(cents=2)
        assert ("call", WIRE, {}) in attribute(task, "calls")


class Recording(Task[..., Any]):
    """As Audited, but only for what is sent."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        self.calls.append((args, kwargs))
        return super().apply_async(args, kwargs, **options)


class Before(Recording, AsyncTask[..., Any]):
    """It comes before AsyncTask."""


class After(AsyncTask[..., Any], Recording):  # type: ignore[misc]
    """It comes after AsyncTask."""


class ChargeBefore(Recording, AsyncTask[..., Any]):
    name = "bases.charge_before"

    async def run(self, day: date, prices: list[Price]) -> Price:
        return await cheapest(day, prices)


class ChargeItself(AsyncTask[..., Any]):
    name = "bases.charge_itself"

    def __init__(self) -> None:
        self.calls: list[object] = []

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        self.calls.append((args, kwargs))
        return super().apply_async(args, kwargs, **options)

    async def run(self, day: date, prices: list[Price]) -> Price:
        return await cheapest(day, prices)


class TestWhereOverridesMayCome:
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_base(self, app: AsyncCelery, call: Call) -> None:
        task = make_shared(Before)

        assert call(task).get() == Price(cents=2)
        assert attribute(task, "calls") == [(WIRE, {})]

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_base_above_async_task(self, app: AsyncCelery, call: Call) -> None:
        # Eagerly, Celery's own apply_async is not called.
        app.conf.task_always_eager = False
        task = make_shared(After)

        with patch.object(app, "send_task", Mock()) as send_task:
            call(task)

        send_task.assert_called_once()
        assert attribute(task, "calls") == [(WIRE, {})]

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    @pytest.mark.parametrize("kind", [ChargeBefore, ChargeItself])
    def test_classes_with_run(self, app: AsyncCelery, kind: type, call: Call) -> None:
        task = app.register_task(untyped(kind)())

        assert call(task).get() == Price(cents=2)
        assert attribute(task, "calls") == [(WIRE, {})]


class TestAttributes:
    def test_are_those_of_the_class(self, app: AsyncCelery) -> None:
        @async_shared_task(base=Audited, bind=True)
        async def task(self: BoundTask) -> list[object]:
            return [attribute(self, "colour"), self.max_retries, attribute(self, "size")]

        with pytest.raises(AttributeError, match="size"):
            task.delay().get()

    def test_are_replaced_by_options(self, app: AsyncCelery) -> None:
        @async_shared_task(base=Audited, bind=True, name="bases.sized", size=3, max_retries=2)
        async def task(self: BoundTask) -> list[object]:
            return [attribute(self, "colour"), self.max_retries, attribute(self, "size")]

        assert task.delay().get() == ["blue", 2, 3]

    def test_automatic_retries_are_those_of_the_class(self, app: AsyncCelery) -> None:
        class Stubborn(Task[..., Any]):
            autoretry_for = (KeyError, ValueError)
            dont_autoretry_for = (UnicodeError,)
            max_retries = 2
            default_retry_delay = 0

        tries: list[str] = []

        @async_shared_task(base=Stubborn, name="bases.stubborn")
        async def task(kind: str) -> None:
            tries.append(kind)
            raise {"key": KeyError, "unicode": UnicodeError}[kind](kind)

        with pytest.raises(KeyError):
            task.delay("key").get()
        with pytest.raises(UnicodeError):
            task.delay("unicode").get()

        assert tries == ["key", "key", "key", "unicode"]


class TestRefusals:
    def test_no_class(self) -> None:
        with pytest.raises(TypeError, match="is not a class"):
            attribute(async_shared_task(base=attribute(Audited, "delay")), "__call__")(cheapest)

    def test_classes_that_do_not_go_together(self) -> None:
        class Meta(type):
            pass

        class Strange(Task[..., Any], metaclass=Meta):
            pass

        class OtherMeta(type):
            pass

        class Other(AsyncTask[..., Any], metaclass=OtherMeta):
            pass

        assert issubclass(type(make_shared(Strange)), object)
        with pytest.raises(TypeError, match="metaclass conflict"):

            class Both(Strange, Other):  # type: ignore[metaclass]
                pass

    def test_final_class(self) -> None:
        class Final(Task[..., Any]):
            def __init_subclass__(cls) -> None:
                raise TypeError("it is final")

        with pytest.raises(TypeError, match=r"Final does not go together .*it is final.*derive it"):
            make_shared(Final)

    @pytest.mark.parametrize("name", ["__call__", "apply_async", "delay", "retry", "apply"])
    def test_coroutine_function_that_nobody_awaits(self, name: str) -> None:
        async def method(self: object, *args: object, **kwargs: object) -> None: ...

        base = type("Base", (Task,), {name: method})

        with pytest.raises(NotACoroutineFunctionError, match=rf"Base\.{name} is async def"):
            make_shared(base)


class Charge(AsyncTask[[date, list[Price]], Price]):
    """A task that is a class."""

    name = "bases.charge"
    max_retries = 1

    async def run(self, day: date, prices: list[Price]) -> Price:
        await asyncio.sleep(0)
        return prices[self.request.retries]


async def yielding(self: object) -> AsyncGenerator[int]:
    yield 1


class TestClassesWithRun:
    def test_is_a_task_when_registered(self, app: AsyncCelery) -> None:
        task: Charge = app.register_task(Charge())

        assert task.delay(DAY, PRICES).get() == Price(cents=3)
        assert asyncio.run(task.adelay(DAY, PRICES)).get() == Price(cents=3)
        assert task.s(DAY, PRICES).delay().get() == Price(cents=3)
        with pytest.raises(TaskArgumentsError, match=r"bases\.charge: day is 'x'"):
            attribute(task, "delay")("x", PRICES)

    def test_class_itself_may_be_registered(self, app: AsyncCelery) -> None:
        assert app.register_task(Charge).delay(DAY, PRICES).get() == Price(cents=3)

    def test_in_a_plain_app(self) -> None:
        app = Celery("plain", broker="memory://", task_always_eager=True)

        assert app.register_task(Charge()).delay(DAY, PRICES).get() == Price(cents=3)

    def test_generator_is_refused(self) -> None:
        with pytest.raises(NotACoroutineFunctionError, match="has one result"):
            type("Yielding", (AsyncTask,), {"run": yielding})

    def test_without_async_task_is_refused(self, app: AsyncCelery) -> None:
        class Wrong(Task[..., Any]):
            name = "bases.wrong"

            async def run(self) -> None: ...

        for task in (Wrong, Wrong()):
            with pytest.raises(ConfigurationError, match=r"bases\.wrong .*class Wrong\(AsyncTask"):
                app.register_task(task)
        app.tasks.register(Wrong())
        with pytest.raises(ConfigurationError, match=r"run of the task bases\.wrong is async def"):
            app.finalize()

    def test_call_that_nobody_awaits_is_refused(self, app: AsyncCelery) -> None:
        async def call(self: object) -> None: ...

        kind = type("Called", (Task,), {"name": "bases.called", "__call__": call})
        with pytest.raises(ConfigurationError, match=r"__call__ of the task bases\.called"):
            app.register_task(untyped(kind)())
        with pytest.raises(NotACoroutineFunctionError, match=r"Called\.__call__ is async def"):
            type("Called", (AsyncTask,), {"name": "bases.called", "__call__": call})


def test_only_a_body_that_is_the_coroutines_runs_without_celerys_tracer(app: AsyncCelery) -> None:
    tasks = [app.register_task(kind()) for kind in (Adding, InFront, Synchronous)]

    assert [runs_lean(task) for task in tasks] == [True, False, False]
