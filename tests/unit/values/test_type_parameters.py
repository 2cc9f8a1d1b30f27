"""Functions and aliases in the syntax of PEP 695, which Python 3.11 cannot read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date
from itertools import count
from types import ModuleType
from typing import cast

import pytest

from tests.support.calling import delay
from tomskit.celery import AsyncCelery, AsyncTask
from tomskit.errors import TaskArgumentsError, TaskResultError

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is Python 3.12's")

SOURCE = """
from collections.abc import Sequence
from datetime import date
from pydantic import BaseModel
from tomskit.celery import async_shared_task

type Days = list[date]
type Both[A, B] = tuple[A, B]
type Tree = dict[str, Tree] | int

class Box[T](BaseModel):
    content: T
    note: str | None = None

@async_shared_task
async def same[T: (int, str)](x: T) -> T:
    return x

@async_shared_task
async def first[T: date](days: Sequence[T]) -> T:
    return days[0]

@async_shared_task
async def later(days: Days) -> Days:
    return [day.replace(year=day.year + 1) for day in days]

@async_shared_task
async def swap(both: Both[int, date]) -> Both[date, int]:
    return both[1], both[0]

@async_shared_task
async def grow(tree: Tree) -> Tree:
    return {"root": tree}

@async_shared_task(bind=True)
async def unpack[T: date](self, box: Box[T]) -> list[T]:
    return [box.content]

@async_shared_task
async def lie[T: (int, str)](x: T) -> T:
    return [x]

def make_inner[S: int]():
    @async_shared_task
    async def inner[T: date](number: S, day: T) -> tuple[T, S]:
        return day, number
    return inner

inner = make_inner()
"""


_numbers = count()
Shop = dict[str, AsyncTask[..., object]]


@pytest.fixture(params=["", "from __future__ import annotations"], ids=["plain", "as text"])
def shop(request: pytest.FixtureRequest, app: AsyncCelery, monkeypatch: pytest.MonkeyPatch) -> Shop:
    # Shared tasks stay for the whole process, under the name of their module.
    name = f"shop_{next(_numbers)}"
    module = ModuleType(name)
    # pydantic resolves the annotations of a model in its module.
    monkeypatch.setitem(sys.modules, name, module)
    head: str = request.param
    code = compile(f"{head}\n{SOURCE}", f"{name}.py", "exec", dont_inherit=True)
    exec(code, vars(module))
    return cast("Shop", vars(module))


def test_a_type_parameter_takes_what_its_constraints_take(shop: Shop) -> None:
    assert shop["same"].delay(5).get() == 5
    assert shop["same"].delay("five").get() == "five"
    with pytest.raises(TaskArgumentsError, match=r"\.same: x.* is 1\.5 \(float\)"):
        delay(shop["same"], 1.5)


def test_a_type_parameter_takes_what_its_bound_takes(shop: Shop) -> None:
    assert shop["first"].delay([date(2024, 1, 1)]).get() == date(2024, 1, 1)
    with pytest.raises(TaskArgumentsError, match=r"days\.0"):
        delay(shop["first"], ["2024-01-01"])


def test_a_result_of_a_type_parameter_is_checked(shop: Shop) -> None:
    with pytest.raises(TaskResultError, match=r"its result"):
        shop["lie"].delay(5).get()


def test_an_alias_stands_for_its_type(shop: Shop) -> None:
    assert shop["later"].delay([date(2024, 1, 1)]).get() == [date(2025, 1, 1)]
    with pytest.raises(TaskArgumentsError, match=r"days\.0 is 'today' \(str\)"):
        delay(shop["later"], ["today"])


def test_an_alias_takes_arguments(shop: Shop) -> None:
    assert shop["swap"].delay((1, date(2024, 1, 1))).get() == (date(2024, 1, 1), 1)


def test_an_alias_may_contain_itself(shop: Shop) -> None:
    assert shop["grow"].delay({"leaf": 1}).get() == {"root": {"leaf": 1}}


def test_a_generic_model_arrives_in_a_function_that_is_generic(shop: Shop) -> None:
    box = cast("Callable[..., object]", shop["Box"])

    assert shop["unpack"].delay(box(content=date(2024, 1, 1))).get() == [date(2024, 1, 1)]


# As text, the names of a function around it are lost to Python itself.
@pytest.mark.parametrize("shop", [""], indirect=True, ids=["plain"])
def test_a_function_may_have_the_type_parameter_of_one_around_it(shop: Shop) -> None:
    assert shop["inner"].delay(1, date(2024, 1, 1)).get() == (date(2024, 1, 1), 1)
