"""A task that takes its time, and says how far it is."""

import asyncio

from pydantic import BaseModel

from tomskit.celery import async_shared_task, report


class Progress(BaseModel):
    """How far an export is."""

    done: int
    total: int


class Export(BaseModel):
    """What an export has made."""

    file: str
    pages: int


class EmptyExportError(ValueError):
    """There is nothing to export."""


async def write_page(seconds: float) -> None:
    """Stands for the work."""
    await asyncio.sleep(seconds)


@async_shared_task
async def export(name: str, pages: int, seconds: float = 0.2) -> Export:
    """Write all pages of a document, each of which takes so many seconds."""
    if pages == 0:
        raise EmptyExportError(f"{name} has no pages")
    for done in range(pages):
        await report(Progress(done=done, total=pages))
        await write_page(seconds)
    await report(Progress(done=pages, total=pages))
    return Export(file=f"{name}.pdf", pages=pages)
