"""The event loop of a worker with the pool, without the worker."""

from collections.abc import Iterator

import pytest
from kombu.asynchronous import get_event_loop, set_event_loop

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
def current(hub: LoopHub) -> Iterator[LoopHub]:
    """The hub that kombu finds meanwhile."""
    before = get_event_loop()
    set_event_loop(hub)
    yield hub
    set_event_loop(before)


@pytest.fixture
def worker_place(hub: LoopHub) -> Iterator[None]:
    """Code between turns has its place, as when the pool runs."""
    set_outer_place(hub.place)
    yield
    set_outer_place(None)
