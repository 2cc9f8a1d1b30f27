"""The event loop of a worker with the pool, without the worker."""

from collections.abc import Iterator

import pytest

from tomskit.celery._running.places import set_outer_place
from tomskit.celery.asyncio_pool.hub import LoopHub


@pytest.fixture
def hub() -> Iterator[LoopHub]:
    hub = LoopHub()
    yield hub
    hub.close()
    if not hub.asyncio_loop.is_closed():
        hub.asyncio_loop.close()


@pytest.fixture
def worker_place(hub: LoopHub) -> Iterator[None]:
    """Code between turns has its place, as when the pool runs."""
    set_outer_place(hub.place)
    yield
    set_outer_place(None)
