"""Results are what their annotations say, or the task fails."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.support.calling import Maker
from tests.support.shop import Author, Customer, Novelist
from tomskit.celery import AsyncCelery
from tomskit.errors import TaskResultError

LYING: Final[tuple[tuple[str, object, object, str], ...]] = (
    ("a str for an int", int, "5", r"its result is '5' \(str\), not int"),
    ("None for an int", int, None, r"its result is None \(NoneType\), not int"),
    ("a value for None", None, 5, r"its result is 5 \(int\), not None"),
    ("a tuple for a list", list[int], (1,), r"its result is \(1,\) \(tuple\), not list\[int\]"),
    ("a dict for a model", Author, {"name": "Jane"}, r"would arrive as Author\("),
    ("a subclass of a model", Author, Novelist(name="Jane"), r"would arrive as Author\("),
    ("a model under Any", Any, Author(name="Jane"), r"Any is Author\(.*would arrive as"),
    ("a wrong item", list[int], [1, "2"], r"its result\.1 is '2' \(str\), not list\[int\]"),
    ("no type of JSON", object, Customer(), r"Customer.*which cannot be sent"),
    ("an int that no float is", float, 2**53 + 1, r"9007199254740993 \(int\)"),
)


@pytest.mark.parametrize(
    ("annotation", "value", "message"), [one[1:] for one in LYING], ids=[one[0] for one in LYING]
)
def test_a_result_that_is_not_what_its_annotation_says_fails_the_task(
    make: Maker, annotation: object, value: object, message: str
) -> None:
    task = make.returning(annotation, value)

    with pytest.raises(TaskResultError, match=rf"{task.name}: .*{message}"):
        task.delay().get()


def test_a_long_result_is_shortened_in_the_message(make: Maker) -> None:
    token = "sk-" + "0123456789" * 30
    task = make.returning(int, token)

    with pytest.raises(TaskResultError) as caught:
        task.delay().get()

    assert token[:120] not in str(caught.value)


def test_the_function_itself_returns_what_it_likes(make: Maker) -> None:
    lying = make.returning(int, "5")

    assert asyncio.run(lying.func()) == "5"


@pytest.mark.parametrize(
    ("annotation", "stored"),
    [
        (int, "five"),
        (int, None),
        (Author, {"title": "Emma"}),
        (list[date], ["yesterday"]),
        (None, 5),
    ],
)
def test_a_result_of_another_annotation_is_an_error_where_it_is_read(
    app: AsyncCelery, make: Maker, annotation: object, stored: object
) -> None:
    # The memory of this backend is one for all apps.
    app.conf.task_always_eager, task_id = False, str(uuid4())
    task = make.returning(annotation, None)
    app.backend.store_result(task_id, stored, "SUCCESS")

    with pytest.raises(TaskResultError, match=rf"{task.name}: its result"):
        task.AsyncResult(task_id).get()


def test_a_result_of_a_plain_client_is_converted_where_it_is_read(
    app: AsyncCelery, make: Maker
) -> None:
    # The memory of this backend is one for all apps.
    app.conf.task_always_eager, task_id = False, str(uuid4())
    task = make.returning(dict[str, date], {})
    app.backend.store_result(task_id, {"day": "2024-01-01"}, "SUCCESS")

    assert task.AsyncResult(task_id).get() == {"day": date(2024, 1, 1)}


def test_such_a_result_has_failed_for_who_does_not_raise(app: AsyncCelery, make: Maker) -> None:
    # The memory of this backend is one for all apps.
    app.conf.task_always_eager, task_id = False, str(uuid4())
    task = make.returning(int, None)
    app.backend.store_result(task_id, "five", "SUCCESS")
    result = task.AsyncResult(task_id)

    assert isinstance(result.get(propagate=False), TaskResultError)
    assert result.state == "FAILURE"
