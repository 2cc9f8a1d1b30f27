"""delay_on_commit: messages that are published if and when the running transaction is committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from celery import Celery

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.client import send
from tomskit.celery._client.recording import Recording
from tomskit.celery._outbox.once import committing
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
    transaction = _Transaction(app)
    recording = Recording(transaction.app)
    result = recording.run(call)
    transaction.hold(recording.messages)
    return result


async def asend_on_commit(app: Celery, call: Callable[[], R]) -> R:
    """The same for what may ask the result backend for something, without blocking the event loop."""
    transaction = _Transaction(app)
    recording = Recording(transaction.app)
    result = await send(transaction.app, lambda: recording.run(call))
    transaction.hold(recording.messages)
    return result


class _Transaction:
    """That of the session here, into which messages of an app are written."""

    def __init__(self, app: Celery) -> None:
        if not isinstance(app, AsyncApp):
            raise ConfigurationError(
                f"The app {app.main!r} is no AsyncCelery, so nothing would publish its messages after "
                "a commit."
            )
        self.app = app
        # A body that runs once has its messages where its mark is.
        self._database = committing.get() or db
        session = self._database.session.sync_session
        assert isinstance(session, TaskSession)  # noqa: S101 (a Database makes no others)
        self._session = session

    def hold(self, messages: list[OutboxRow]) -> None:
        """Let the session write messages when it commits, and have them published then."""
        if messages:
            publisher = publisher_of(self.app, self._database)
            grace_ms = int(grace_seconds(self.app) * 1000)
            self._session.hold(messages, publisher.hand_over, grace_ms=grace_ms)
