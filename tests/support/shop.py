"""Types and a task of an application, for tests of arguments and results."""

from __future__ import annotations

import dataclasses
import enum
from datetime import date
from typing import NamedTuple, NotRequired

from pydantic import BaseModel
from typing_extensions import TypedDict

from tomskit.celery import async_shared_task


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Author(BaseModel):
    name: str
    born: date | None = None


class Novelist(Author):
    novels: int = 1


class Book(BaseModel):
    title: str
    authors: list[Author] = []
    ratio: float = 0.5


@dataclasses.dataclass
class Place:
    lat: float
    tags: list[str] = dataclasses.field(default_factory=list[str])


@dataclasses.dataclass
class NamedPlace(Place):
    name: str = "here"


class Pair(NamedTuple):
    left: int
    right: int


class Span(TypedDict):
    start: date
    end: NotRequired[date]


class Customer:
    """Of no kind that pydantic knows."""


@async_shared_task(name="shop.order")
async def order(book: Book, copies: int, *, on: date | None = None) -> list[str]:
    return [book.title] * copies


@dataclasses.dataclass
class Node:
    weight: float
    next: Node | None = None
    seen: int = dataclasses.field(init=False, default=0)
