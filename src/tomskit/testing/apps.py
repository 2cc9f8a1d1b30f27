"""An app of its own for a test, with its runtime, and its resources in the test's event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from celery.contrib.testing.app import setup_default_app

from tomskit.celery._running.runtime import AsyncRuntime
from tomskit.celery.app import AsyncCelery

__all__ = ("running", "task_scope")


@contextmanager
def running(app: AsyncCelery) -> Generator[AsyncCelery]:
    """Make `app` the current one, with its runtime, as in a process of a worker.

    Meanwhile ``AsyncRuntime.run(coro)`` runs coroutines with a session and a Redis client, and shared
    tasks belong to this app. Afterwards the runtime is shut down and the app that was current before is
    current again.

    Yields:
        The app.
    """
    with setup_default_app(app):
        app.set_current()
        app.set_default()
        AsyncRuntime.init(app)
        try:
            yield app
        finally:
            AsyncRuntime.shutdown()


@asynccontextmanager
async def task_scope(app: AsyncCelery) -> AsyncGenerator[AsyncCelery]:
    """Have the resources of `app` in the running event loop, as in a task: for async tests.

    Meanwhile ``db.session`` and ``redis_client`` work in the code of this block.

    Yields:
        The app.
    """
    resources = app.resources
    await resources.start()
    try:
        async with AsyncExitStack() as scopes:
            for provider in resources.providers:
                await scopes.enter_async_context(provider.task_scope())
            yield app
    finally:
        await resources.stop()
