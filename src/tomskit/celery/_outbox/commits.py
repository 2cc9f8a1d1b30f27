"""delay_on_commit: messages that are published if and when the running transaction is committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from celery import Celery, Task

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.client import send
from tomskit.celery._client.recording import Recording
from tomskit.celery._outbox.databases import committing
from tomskit.errors import ConfigurationError
from tomskit.lazily import cached_property

if TYPE_CHECKING:
    from celery.canvas import Signature
    from celery.result import AsyncResult

    from tomskit.celery._client.templates import Wire
    from tomskit.celery._outbox.publisher import Publisher
    from tomskit.sqlalchemy.rows import OutboxRow

__all__ = ("asend_on_commit", "send_call_on_commit", "send_on_commit")

R = TypeVar("R")


def send_on_commit(
    app: Celery,
    call: Callable[[], R],
    signature: Callable[[], Signature[Any]],
    args: Callable[[], tuple[object, ...]] = tuple,
) -> R:
    """Call something that sends tasks of `app`, and publish them after the commit of ``db.session``.

    Args:
        app: Whose tasks they are.
        call: Sends them as Celery does.
        signature: Makes what runs after the commit in eager mode, with the same arguments and options.
        args: Makes the wire form of what comes before the arguments of the signature.

    Raises:
        NotInitializedError: There is no session here.
    """
    transaction = _Transaction(app)
    if transaction.is_eager:
        return cast("R", transaction.run(signature(), *args()))
    recording = Recording(transaction.app)
    result = recording.run(call)
    transaction.hold(recording.messages)
    return result


def send_call_on_commit(
    task: Task[..., Any],
    call: Callable[[], R],
    wire: Callable[[], Wire],
    signature: Callable[[], Signature[Any]],
) -> R:
    """Send a call of a task without options after the commit of ``db.session``.

    Args:
        task: Returns an `R` as its ``AsyncResult``.
        call: Sends it as Celery does.
        wire: Makes the arguments, as they are sent.
        signature: Makes what runs after the commit in eager mode.

    Raises:
        NotInitializedError: There is no session here.
    """
    transaction = _Transaction(task.app)
    if transaction.is_eager:
        return cast("R", transaction.run(signature()))
    templates = transaction.publisher.templates
    if (template := templates.find(task)) is not None:
        row, made = templates.record(task, template, wire())
        transaction.hold([row])
        return cast("R", made)
    learns = templates.may_learn(task)
    recording = Recording(transaction.app)
    result = recording.run(call)
    if learns:
        task_id = cast("AsyncResult[Any]", result).id
        templates.learn(task, wire(), task_id, recording.messages)
    transaction.hold(recording.messages)
    return result


async def asend_on_commit(
    app: Celery,
    call: Callable[[], R],
    signature: Callable[[], Signature[Any]],
    args: Callable[[], tuple[object, ...]] = tuple,
) -> R:
    """The same for what may ask the result backend for something, without blocking the event loop."""
    transaction = _Transaction(app)
    if transaction.is_eager:
        return cast("R", transaction.run(signature(), *args()))
    recording = Recording(transaction.app)
    result = await send(transaction.app, lambda: recording.run(call))
    transaction.hold(recording.messages)
    return result


class _Transaction:
    """That of the session here, into which messages of an app are written."""

    def __init__(self, app: Celery) -> None:
        if not isinstance(app, AsyncApp):
            raise ConfigurationError(
                f"The app {app.main!r} is not an AsyncCelery, so nothing would publish its messages after "
                "a commit."
            )
        from tomskit.sqlalchemy.database import db
        from tomskit.sqlalchemy.sessions import TaskSession

        self.app = app
        # A body that runs once has its messages where its mark is.
        self._database = committing.get() or db
        session = self._database.session.sync_session
        assert isinstance(session, TaskSession)  # noqa: S101 (a Database makes no others)
        self._session = session

    @property
    def is_eager(self) -> bool:
        """Whether tasks run here and are not sent."""
        return bool(self.app.conf.task_always_eager)

    def run(self, signature: Signature[Any], *args: object) -> object:
        """Run a signature after the commit, with what comes before its arguments."""
        from tomskit.celery._outbox.eager import run_on_commit

        return run_on_commit(self._session, signature, *args)

    @cached_property
    def publisher(self) -> Publisher:
        """Publishes them after the commit."""
        from tomskit.celery._outbox.publisher import publisher_of

        return publisher_of(self.app, self._database)

    def hold(self, messages: list[OutboxRow]) -> None:
        """Let the session write messages when it commits, and have them published then."""
        if messages:
            publisher = self.publisher
            self._session.hold(messages, publisher.hand_over, grace_ms=publisher.grace_ms)
