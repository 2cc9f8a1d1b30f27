"""Functions of the application that pydantic calls: they may fail where a value arrives."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_serializer,
    model_validator,
)

from tests.support.calling import Maker, delay
from tests.support.values import NOON
from tomskit.celery import AsyncCelery, async_shared_task
from tomskit.errors import TaskArgumentsError, TaskResultError


class Positional(BaseModel):
    number: int

    def __init__(self, first: int) -> None:
        super().__init__(number=first)


class Raw(BaseModel):
    content: dict[str, int]

    @model_validator(mode="before")
    @classmethod
    def from_raw(cls, data: Mapping[str, object]) -> object:
        return {"content": data["raw"]}


class Written(BaseModel):
    when: datetime

    @field_serializer("when")
    def write(self, when: datetime) -> str:
        return when.strftime("%d.%m.%Y")


class Excluding(BaseModel):
    number: int = Field(default=1, exclude=True)


REFUSED: Final[tuple[tuple[object, str], ...]] = (
    (Positional(1), r"cannot be made of {'number': 1}.*TypeError: .*argument 'number'"),
    (Raw.model_validate({"raw": {"a": 1}}), r"cannot be made of {'content'.*KeyError: 'raw'"),
    (Written(when=NOON), r"\.when is sent as '29\.02\.2024' \(str\), of which .*Written cannot be"),
    (Excluding(number=2), r"\.number is 2 .* as 1 .*, because the field is excluded, and not sent"),
)


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=lambda one: type(one).__name__)
def test_what_cannot_be_made_again_is_refused_with_the_reason(
    make: Maker, value: object, reason: str
) -> None:
    with pytest.raises(TaskArgumentsError, match=f"value.*{reason}"):
        delay(make.taking(type(value)), value)
    with pytest.raises(TaskResultError, match=f"its result.*{reason}"):
        make.returning(type(value), value).delay().get()


def test_the_argument_that_fails_is_named_among_others(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError) as caught:
        delay(store, 1, 2, third=Raw.model_validate({"raw": {}}))

    assert "third" in str(caught.value)
    assert "first" not in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


@async_shared_task
async def store(first: int, second: int, third: Raw) -> None: ...


def test_a_validator_that_fails_in_the_worker_fails_the_task_with_our_error(
    app: AsyncCelery,
) -> None:
    result = read.apply(args=({"content": {}},))

    assert isinstance(result.result, TaskArgumentsError)
    assert "KeyError: 'raw'" in str(result.result)


@async_shared_task(typing=False)
async def read(raw: Raw) -> None: ...


def _as_list(array: NDArray[np.float64]) -> object:
    return array.tolist()


Array = Annotated[Any, BeforeValidator(np.asarray), PlainSerializer(_as_list)]


class Measured(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    values: Array


@pytest.mark.parametrize("values", [[1.0, 2.0], [1], [], [[1, 2], [3, 4]]])
def test_arrays_in_a_model_arrive(make: Maker, values: list[Any]) -> None:
    array = np.asarray(values)

    delay(make.taking(Measured), Measured(values=array))

    [arrived] = make.received
    assert isinstance(arrived, Measured)
    received = cast("NDArray[np.float64]", arrived.values)
    assert received.dtype == array.dtype
    assert np.array_equal(received, array)


def test_an_array_that_would_arrive_as_another_is_refused(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError, match=r"value\.values is .*float32.* would arrive as"):
        delay(make.taking(Measured), Measured(values=np.asarray([1.5, 2], dtype=np.float32)))


@pytest.mark.parametrize("text", ["sNaN", "NaN", "-0", "1E+500"])
def test_a_decimal_that_does_not_compare_arrives(make: Maker, text: str) -> None:
    delay(make.taking(dict[str, Any]), {"a": Decimal(text)})
    delay(make.taking(list[object]), [Decimal(text), [Decimal(text)]])

    assert str(make.received[0]) == str({"a": Decimal(text)})
