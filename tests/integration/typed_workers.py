"""Workers of the typed service, and what tests of values ask of them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, TypeVar

import celery
from celery import Signature, signature
from celery.signals import before_task_publish

from tests.integration import typed_service
from tests.integration.conftest import TIMEOUT, Deployment
from tests.support.values import described
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery, TypedResult

T = TypeVar("T")

SERVICE: Final = typed_service.__name__


@contextmanager
def serve(deployment: Deployment, pool: Pool, **environment: str) -> Generator[AsyncCelery]:
    """An app whose tasks a worker runs."""
    deployment.environment.update(environment)
    deployment.running = deployment.worker(pool, concurrency=2, module=SERVICE)
    with typed_service.client(deployment.environment) as app:
        yield app


async def awaited(sent: TypedResult[T]) -> T:
    async with asyncio.timeout(TIMEOUT):
        return await sent


def plain(name: str) -> Signature[object]:
    """A plain task of the service's."""
    return signature(f"{SERVICE}.{name}", app=celery.current_app)


def both_of(*values: object) -> list[str]:
    """What a task tells that has got these."""
    return [described(value) for value in values]


@contextmanager
def published() -> Generator[list[object]]:
    """The names of the tasks that this process sends meanwhile."""
    names: list[object] = []

    def note(sender: object, **_: object) -> None:
        names.append(sender)

    before_task_publish.connect(note)
    yield names
    before_task_publish.disconnect(note)
