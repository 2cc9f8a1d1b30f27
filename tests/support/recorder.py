"""A provider of resources that tells what happens to it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Recorder:
    """Notes what happens to it in a list of the test's."""

    name = "recorder"

    def __init__(self, events: list[str]) -> None:
        self.events = events

    async def startup(self) -> None:
        self.events.append("started")

    async def shutdown(self) -> None:
        self.events.append("stopped")

    @asynccontextmanager
    async def task_scope(self) -> AsyncGenerator[None]:
        self.events.append("entered")
        yield
        self.events.append("left")
