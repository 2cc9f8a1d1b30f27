"""The cost of converting arguments: from the call, over the wire, to the function.

Run it with ``python -m benchmarks.codec``.
"""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from timeit import timeit
from typing import Any, cast
from uuid import UUID

from kombu.utils import json as kombu_json
from pydantic import BaseModel

from benchmarks.table import Row, print_table
from tomskit.celery._values.codec import Codec
from tomskit.celery.serializers import OrjsonSerializer

ROUNDS = 25
CALLS = 2_000
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
"""The third part of a message body, which Celery sends with the arguments."""

SMALL = ((1,), {"b": "hello"}, EMBED)

TASKS = 500
IMPORTS = 9
DEFINITIONS = """
import time
from datetime import datetime
from uuid import UUID
from celery import shared_task
from tomskit.celery import async_shared_task
start = time.perf_counter()
for _ in range({tasks}):
    @{decorator}
    {keyword} task(when: datetime, order: UUID, tags: set[str], *, copies: int = 1) -> str: ...
print(time.perf_counter() - start)
"""


class Priority(Enum):
    """A type that Celery cannot send."""

    LOW = "low"
    HIGH = "high"


class Line(BaseModel):
    """Another type that Celery cannot send."""

    sku: str
    quantity: int = 1
    price: Decimal


async def small(a: int, *, b: str) -> None: ...


async def rich(  # noqa: PLR0917
    placed_at: datetime,
    day: date,
    order: UUID,
    total: Decimal,
    priority: Priority,
    tags: set[str],
    lines: list[Line],
) -> None: ...


_Body = tuple[list[object], dict[str, object], object]
Seven = tuple[datetime, date, UUID, Decimal, Priority, set[str], list[Line]]

SEVEN: Seven = (
    datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
    date(2026, 2, 3),
    UUID(int=2**127 + 12345),
    Decimal("19.99"),
    Priority.HIGH,
    {"gift", "express"},
    [Line(sku="tea", price=Decimal("4.99")), Line(sku="cup", quantity=3, price=Decimal(5))],
)


def typed(
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    *,
    checked: bool,
) -> Callable[[], object]:
    """Encode arguments, decode them and convert them for the function.

    With `checked`, the check and the conversion at the call site are included.
    """
    codec = Codec(function, name="benchmark", bind=False)
    check, load = codec.check, codec.load
    serializer = OrjsonSerializer()
    dumps, loads = serializer.dumps, cast("Callable[[bytes], _Body]", serializer.loads)

    message = args, kwargs, EMBED

    def there_and_back() -> object:
        body = (*check(args, kwargs), EMBED) if checked else message
        positional, keyword, _ = loads(dumps(body))
        return load(tuple(positional), keyword)

    assert there_and_back() == (args, kwargs)
    return there_and_back


def untyped() -> object:
    """Encode and decode the small call with Celery alone."""
    return kombu_json.loads(kombu_json.dumps(SMALL))


def by_hand() -> object:
    """Encode and decode the rich call with Celery, with the missing conversions by hand."""
    when, day, order, total, priority, tags, lines = SEVEN
    plain = (
        *(when, day, order, total, priority.value, list(tags)),
        [line.model_dump() for line in lines],
    )
    args, *_ = cast("_Body", kombu_json.loads(kombu_json.dumps((plain, {}, EMBED))))
    return (
        *(*args[:4], Priority(args[4]), set(cast("list[str]", args[5]))),
        [Line(**line) for line in cast("list[dict[str, Any]]", args[6])],
    )


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], to: str) -> Row:
    rounds = [[timeit(call, number=CALLS) for call in (ours, theirs)] for _ in range(ROUNDS)]
    mine, peer = (min(times) * 1e6 / CALLS for times in zip(*rounds, strict=True))
    return Row(name, mine, peer, "us", peer / mine, to)


def measure() -> list[Row]:
    assert by_hand() == SEVEN
    decorating, shared_task = _decorate(), _decorate("shared_task", "def")
    return [
        compare(
            "dump and load (int, *, str) / kombu json",
            typed(small, (1,), {"b": "hello"}, checked=False),
            untyped,
            ">= 3.3 (0.3 of its time)",
        ),
        compare(
            "the same, checked where it is called",
            typed(small, (1,), {"b": "hello"}, checked=True),
            untyped,
            "",
        ),
        compare(
            "seven rich arguments / json, by hand",
            typed(rich, SEVEN, {}, checked=True),
            by_hand,
            ">= 1",
        ),
        Row(
            f"decorating {TASKS} tasks / shared_task",
            decorating,
            shared_task,
            "ms",
            shared_task / decorating,
            "200 ms at most",
        ),
    ]


def _decorate(decorator: str = "async_shared_task", keyword: str = "async def") -> float:
    code = DEFINITIONS.format(tasks=TASKS, decorator=decorator, keyword=keyword)
    command = [sys.executable, "-c", code]
    times = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(IMPORTS)
    ]
    return min(times) * 1000


if __name__ == "__main__":
    print_table(measure())
