"""The tasks: coroutines that an ordinary Celery worker runs."""

import asyncio
import json
import logging

from celery import shared_task
from models import User

from tomskit.celery import AsyncRuntime, AsyncTaskRunner, BoundTask, async_shared_task
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy.database import db

logger = logging.getLogger(__name__)


class UnknownUserError(LookupError):
    """There is no user with this id."""


class MailServerBusyError(ConnectionError):
    """The mail server is busy and asks to try again later."""


async def add_user(name: str, email: str) -> int:
    """Add a row. Every task has its own session and commits explicitly."""
    user = User(name=name, email=email)
    db.session.add(user)
    await db.session.commit()
    logger.info("Added %s as user %s", name, user.id)
    return user.id


# Three ways to run the same coroutine.


@async_shared_task
async def create_user(name: str, email: str) -> int:
    """The usual way: the task itself is a coroutine function."""
    return await add_user(name, email)


@shared_task
def create_user_with_runtime(name: str, email: str) -> int:
    """A plain task that runs a coroutine on the event loop of its worker process."""
    return AsyncRuntime.run(add_user(name, email))


@shared_task
def create_user_with_runner(name: str, email: str) -> int:
    """A plain task that runs a coroutine in an event loop of its own."""
    return AsyncTaskRunner(add_user).run(name, email)


@async_shared_task(throws=(UnknownUserError,))
async def cache_user_data(user_id: int) -> str:
    """Copy a user from the database to Redis for an hour, and return the key.

    Exceptions in ``throws`` are expected, so they are logged without a traceback.
    """
    user = await db.session.get(User, user_id)
    if user is None:
        raise UnknownUserError(f"There is no user {user_id}")
    key = f"user:{user.id}"
    await redis_client.set(key, json.dumps({"name": user.name, "email": user.email}), ex=3600)
    logger.info("Cached %s", key)
    return key


@async_shared_task
async def simple_task(x: int, y: int) -> int:
    """Use neither the database nor Redis: connections open at first use."""
    await asyncio.sleep(0.01)
    return x * y


async def deliver(email: str, *, attempt: int) -> None:
    """Simulate a mail server that is busy during the first two attempts."""
    await asyncio.sleep(0.01)
    if attempt < 3:
        raise MailServerBusyError(f"No mail to {email} now, try again later")


@async_shared_task(bind=True, max_retries=5)
async def send_welcome_mail(self: BoundTask, email: str) -> str:
    """Retry until the mail is sent. With ``bind=True`` the task is the first argument."""
    attempt = self.request.retries + 1
    try:
        await deliver(email, attempt=attempt)
    except MailServerBusyError as exc:
        logger.warning("Attempt %s: %s", attempt, exc)
        raise self.retry(exc=exc, countdown=0.2) from exc
    return f"sent at attempt {attempt}"
