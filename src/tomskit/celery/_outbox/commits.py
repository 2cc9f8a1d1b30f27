"""delay_on_commit: messages that are published if and when the running transaction is committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from celery import Celery

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.client import send
from tomskit.celery._client.recording import Recording
from tomskit.celery._outbox.publisher import grace_seconds, publisher_of
from tomskit.errors import ConfigurationError
from tomskit.sqlalchemy.database import db
from tomskit.sqlalchemy.sessions import OutboxRow, TaskSession

__all__ = ("asend_on_commit", "send_on_commit")

R = TypeVar("R")


def send_on_commit(app: Celery, call: Callable[[], R]) -> R:
    """Call something that sends tasks of `app`, and publish them after the commit of ``db.session``.

    Raises:
        NotInitializedError: There is no session here.
    """
    mine, session = _session(app)
    recording = Recording(mine)
    result = recording.run(call)
    _hold(mine, session, recording.messages)
    return result


async def asend_on_commit(app: Celery, call: Callable[[], R]) -> R:
    """The same for what may ask the result backend for something, without blocking the event loop."""
    mine, session = _session(app)
    recording = Recording(mine)
    result = await send(mine, lambda: recording.run(call))
    _hold(mine, session, recording.messages)
    return result


def _session(app: Celery) -> tuple[AsyncApp, TaskSession]:
    if not isinstance(app, AsyncApp):
        raise ConfigurationError(
            f"The app {app.main!r} is no AsyncCelery, so nothing would publish its messages after a "
            "commit."
        )
    session = db.session.sync_session
    assert isinstance(session, TaskSession)  # noqa: S101 (db makes no others)
    return app, session


def _hold(app: AsyncApp, session: TaskSession, messages: list[OutboxRow]) -> None:
    if messages:
        publisher = publisher_of(app)
        session.hold(messages, publisher.hand_over, grace_ms=int(grace_seconds(app) * 1000))
