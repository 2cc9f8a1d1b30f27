"""Hooks that are no functions: whatever is called with the task, where it takes one."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from tomskit.celery import AsyncCelery, async_shared_task
from tomskit.celery._tasks.hooks import HOOKS

seen: list[tuple[object, ...]] = []

Hook = Callable[..., object]


def of(kind: str, hook: str) -> Any:
    """A hook of this kind, which notes what it gets: the task, and the arguments of this hook."""
    names = ", ".join(f"a{number}" for number in range(HOOKS[hook]))
    scope: dict[str, Any] = {"seen": seen}
    code = f"""
def plain(self, {names}): seen.append((self.name, {names}))
async def awaited(self, {names}): seen.append((self.name, {names}))
def tagged(tag, self, {names}): seen.append((self.name, {names}))
def without(tag, {names}): seen.append((tag, {names}))
class Called:
    def __call__(self, task, {names}): seen.append((task.name, {names}))
    def method(self, task, {names}): seen.append((task.name, {names}))
    @classmethod
    def of_class(cls, task, {names}): seen.append((task.name, {names}))
"""
    exec(code, scope)
    called = scope["Called"]()
    kinds: dict[str, Any] = {
        "function": scope["plain"],
        "async function": scope["awaited"],
        "partial": functools.partial(scope["tagged"], "tag"),
        "partial of async function": functools.partial(scope["awaited"]),
        "partial as Celery calls it": functools.partial(scope["without"], "hooks.of_option"),
        "callable": called,
        "bound method": called.method,
        "class method": called.of_class,
        "static method": staticmethod(scope["plain"]),
    }
    return kinds[kind]


KINDS = (
    "function",
    "async function",
    "partial",
    "partial of async function",
    "partial as Celery calls it",
    "callable",
    "bound method",
    "class method",
    "static method",
)


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@pytest.fixture
def app() -> AsyncCelery:
    return AsyncCelery("hooks", broker="memory://", task_always_eager=True)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_that_takes_the_task_gets_it_first(app: AsyncCelery, kind: str, hook: str) -> None:
    async def work(outcome: str) -> str:
        if outcome == "on_failure":
            raise KeyError(outcome)
        if outcome == "on_retry" and not task.request.retries:
            raise task.retry(countdown=0)
        return outcome

    decorate: Any = app.task
    task: Any = decorate(name="hooks.of_option", **{hook: of(kind, hook)})(work)

    task.delay(hook)

    assert seen
    name, *arguments = seen[0]
    assert name == "hooks.of_option"
    assert len(arguments) == HOOKS[hook]
    ids = [one for one in arguments if isinstance(one, str)]
    assert any(len(one) == 36 for one in ids)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_with_the_decorator_of_shared_tasks(app: AsyncCelery, kind: str) -> None:
    async def work() -> int:
        return 3

    hook: Any = of(kind, "on_success")
    async_shared_task(name="hooks.of_option", on_success=hook)(work).delay()

    [(name, value, _, args, kwargs)] = seen
    assert (name, value, args, kwargs) == ("hooks.of_option", 3, (), {})
