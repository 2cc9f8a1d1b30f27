"""Tasks that make, scale and measure pictures, to be joined to workflows."""

from typing import Any

from pydantic import BaseModel

from tomskit.celery import async_shared_task


class Picture(BaseModel):
    name: str
    width: int = 640


@async_shared_task
async def load(name: str) -> Picture:
    return Picture(name=name)


@async_shared_task
async def scale(picture: Picture, factor: float = 0.5, *, suffix: str = "") -> Picture:
    return Picture(name=picture.name + suffix, width=int(picture.width * factor))


@async_shared_task
async def width(picture: Picture) -> int:
    return picture.width


@async_shared_task
async def total(widths: list[int]) -> int:
    return sum(widths)


@async_shared_task
async def ready() -> str:
    return "ready"


def untyped(task: object) -> Any:
    """The task for calls that type checkers refuse."""
    return task


def join(left: Any, right: Any) -> Any:
    return left | right
