"""What ``apply_async`` and its like take as positional and keyword arguments: as of Celery."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from tomskit.celery import AsyncCelery, BoundTask, async_shared_task
from tomskit.testing import sent


@async_shared_task
async def text(first: str, second: str = "") -> str:
    return first + second


@async_shared_task(bind=True)
async def again(self: BoundTask, first: str) -> str:
    arguments: Any = first
    raise self.retry(args=arguments, countdown=0)


@pytest.fixture
def ways(app: AsyncCelery) -> list[Callable[..., object]]:
    registered: Any = app.tasks[text.name]
    unchecked: Any = text
    return [
        unchecked.apply_async,
        lambda *given: asyncio.run(unchecked.aapply_async(*given)),
        unchecked.apply,
        unchecked.signature,
        registered.apply_async,
        registered.signature,
    ]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        pytest.param("a", "'a' (str)", id="text"),
        pytest.param(b"a", "b'a' (bytes)", id="bytes"),
        pytest.param({"first": "a"}, "{'first': 'a'} (dict)", id="dict"),
        pytest.param({"a"}, "{'a'} (set)", id="set"),
        pytest.param(5, "5 (int)", id="number"),
    ],
)
def test_what_is_no_list_and_no_tuple_is_refused(
    ways: list[Callable[..., object]], given: object, shown: str
) -> None:
    for call in ways:
        with pytest.raises(TypeError, match=re.escape(f"{text.name}: args is {shown}")):
            call(given)


def test_an_iterator_is_refused(ways: list[Callable[..., object]]) -> None:
    for call in ways:
        with pytest.raises(TypeError, match="not a tuple or a list"):
            call(iter(["a"]))


@pytest.mark.parametrize("given", [[("first", "a")], "ab", 5])
def test_keyword_arguments_that_are_no_mapping_are_refused(
    ways: list[Callable[..., object]], given: object
) -> None:
    for call in ways:
        with pytest.raises(TypeError, match="not a mapping of names to values"):
            call((), given)


def test_a_retry_with_a_text_in_place_of_arguments_is_refused(app: AsyncCelery) -> None:
    with pytest.raises(TypeError, match=re.escape("args is 'a' (str)")):
        again.delay("a").get()


@pytest.mark.parametrize("given", [("a", "b"), ["a", "b"]])
def test_tuples_and_lists_are_sent(app: AsyncCelery, given: Any) -> None:
    with sent(app) as caught:
        app.conf.task_always_eager = False
        text.apply_async(given)

    assert [one.args for one in caught] == [("a", "b")]
