"""Tasks that report how far they are, and a page that shows it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypedDict, TypeVar, assert_type

from pydantic import BaseModel

from tomskit.celery import TypedResult, async_shared_task, report

T = TypeVar("T")


class Progress(BaseModel):
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    begun: datetime


@dataclass
class Found(Generic[T]):
    newest: T


class Counts(TypedDict):
    rows: int
    errors: int


async def read(rows: int) -> None:
    for row in range(rows):
        assert_type(await report(Progress(done=row, total=rows)), None)


@async_shared_task
async def load(rows: int, when: datetime) -> int:
    await report(Step("read", when))
    await read(rows)
    counts: Counts = {"rows": rows, "errors": 0}
    await report(counts)
    await report(Found(3))
    await report({"anything": [1, 2]})
    return rows


async def show(sent: TypedResult[int]) -> int:
    async for progress in sent.progress(Progress):
        assert_type(progress, Progress)
        print(progress.done / progress.total)
    async for step in sent.progress(Step, timeout=10, interval=2):
        assert_type(step, Step)
    async for counts in sent.progress(Counts):
        assert_type(counts, Counts)
        print(counts["rows"])
    async for found in load.AsyncResult("id").progress(Found[int]):
        assert_type(found, Found[int])
    return await sent


async def first(sent: TypedResult[int]) -> Progress | None:
    async with aclosing(sent.progress(Progress)) as reports:
        async for progress in reports:
            return progress
    return None


def reports_of(sent: TypedResult[object]) -> AsyncGenerator[Progress]:
    return sent.progress(Progress, timeout=None)


async def report_more(mapping: Mapping[str, object]) -> None:
    await report(mapping)
