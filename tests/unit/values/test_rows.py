"""Rows of SQLAlchemy are tuples, for type checkers and where they arrive."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import pytest
from sqlalchemy import Connection, RowMapping, create_engine, literal, select

from tests.support.calling import Maker, delay
from tomskit.errors import TaskArgumentsError, TaskResultError


class Entry(NamedTuple):
    id: int
    name: str


class Swapped(NamedTuple):
    name: str
    id: int


class Renamed(NamedTuple):
    number: int
    name: str


@contextmanager
def connected() -> Generator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(scope="module")
def mapping() -> Iterator[RowMapping]:
    with connected() as connection:
        yield connection.execute(STATEMENT).mappings().one()


@pytest.fixture(scope="module")
def row() -> object:
    with connected() as connection:
        return connection.execute(STATEMENT).one()


STATEMENT: Final = select(literal(1).label("id"), literal("Jane").label("name"))

ANNOTATIONS: Final[tuple[tuple[object, object], ...]] = (
    (tuple[int, str], (1, "Jane")),
    (tuple[int | str, ...], (1, "Jane")),
    (tuple[float, str], (1.0, "Jane")),
    (tuple[Any, ...], (1, "Jane")),
    (tuple, (1, "Jane")),
    (tuple[int, str] | None, (1, "Jane")),
    (tuple[int, str] | int, (1, "Jane")),
    (Sequence[int | str], [1, "Jane"]),
    (Entry, Entry(1, "Jane")),
)


@pytest.mark.parametrize(("annotation", "arrived"), ANNOTATIONS)
def test_a_row_is_a_tuple(make: Maker, row: object, annotation: object, arrived: object) -> None:
    delay(make.taking(annotation), row)
    result = make.returning(annotation, row).delay().get()

    assert make.received == [arrived]
    assert type(make.received[0]) is type(arrived)
    assert result == arrived
    assert type(result) is type(arrived)


WRAPPED: Final[tuple[tuple[object, Callable[[object], object]], ...]] = (
    (list[tuple[int, str]], lambda row: [row, row]),
    (Sequence[tuple[int, str]], lambda row: [row]),
    (dict[str, tuple[int, str]], lambda row: {"a": row}),
    (set[tuple[int, str]], lambda row: {row}),
    (tuple[tuple[int, str], ...], lambda row: (row,)),
    (list[Entry], lambda row: [row]),
    (list[tuple[int, str] | None], lambda row: [None, row]),
)


@pytest.mark.parametrize(("annotation", "wrap"), WRAPPED)
def test_rows_arrive_in_collections(
    make: Maker, row: object, annotation: object, wrap: Callable[[object], object]
) -> None:
    delay(make.taking(annotation), wrap(row))
    result = make.returning(annotation, wrap(row)).delay().get()

    expected = wrap(Entry(1, "Jane") if "Entry" in str(annotation) else (1, "Jane"))
    assert make.received == [expected]
    assert result == expected
    assert repr(result) == repr(expected)


@pytest.mark.parametrize(
    "annotation",
    [
        tuple[str, int],
        tuple[int],
        list[Any],
        Any,
        str,
        Swapped,
        Renamed,
        dict[str, Any],
        tuple[int, str] | list[Any] | Any,
    ],
)
def test_a_row_for_something_else_is_refused(make: Maker, row: object, annotation: object) -> None:
    with pytest.raises(TaskArgumentsError, match="value"):
        delay(make.taking(annotation), row)
    with pytest.raises(TaskResultError, match="its result"):
        make.returning(annotation, row).delay().get()


def test_a_row_as_a_mapping_is_a_mapping(make: Maker, mapping: RowMapping) -> None:
    delay(make.taking(Mapping[str, Any]), mapping)

    assert make.received == [{"id": 1, "name": "Jane"}]
