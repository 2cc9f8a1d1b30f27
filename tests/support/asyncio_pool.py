"""Workers with the asyncio pool, and the tasks of `asyncio_service` that they run."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from celery import Signature, signature

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.remote import Result, fresh_key, release, started

SERVICE: Final = "tests.integration.asyncio_service"
WIDE: Final = 200


def start(
    deployment: Deployment, concurrency: int, *extra_args: str, **environment: str
) -> Deployment:
    """Start the worker of a deployment."""
    deployment.running = deployment.worker(
        "asyncio", concurrency, *extra_args, module=SERVICE, environment=environment
    )
    return deployment


def send(deployment: Deployment, task: str, *args: object, **options: object) -> Result:
    return deployment.send(f"{SERVICE}.{task}", *args, **options)


def call(deployment: Deployment, task: str, *args: object, **options: object) -> object:
    return send(deployment, task, *args, **options).get(timeout=TIMEOUT)


def sig(
    deployment: Deployment, task: str, *args: object, immutable: bool = False
) -> Signature[object]:
    return signature(f"{SERVICE}.{task}", args=args, app=deployment.client, immutable=immutable)


@contextmanager
def occupied(deployment: Deployment) -> Generator[Result]:
    """A task runs meanwhile, and ends with it."""
    key = fresh_key()
    running = started(send(deployment, "wait_for", key))
    try:
        yield running
    finally:
        release(deployment, key)
        assert running.get(timeout=TIMEOUT) == "released"
