"""delay_on_commit in eager mode: tasks that run here, when the running transaction is committed."""

from __future__ import annotations

import logging
from typing import Any, Final, TypeVar

from celery import canvas, states
from celery.canvas import Signature
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, GroupResult
from celery.utils import uuid
from typing_extensions import TypeIs, override
from vine import promise

from tomskit._internals.sqlalchemy import wait_in_session
from tomskit.celery._client.result import TypedEagerResult
from tomskit.celery._client.result_sets import TypedGroupResult
from tomskit.celery._client.threads import in_thread_of_its_own
from tomskit.celery._internals.celery_tasks import ChainSignature
from tomskit.celery._outbox.databases import committing
from tomskit.sqlalchemy.sessions import TaskSession

__all__ = ("run_on_commit",)

R_co = TypeVar("R_co", covariant=True)

logger: Final = logging.getLogger(__name__)

_COMPOUND: Final = frozenset({"chain", "chord", "group"})


class AwaitedEagerResult(TypedEagerResult[R_co]):
    """The result of a task that runs when a transaction is committed, and until then is pending."""

    _state: str
    _result: object
    _traceback: object
    on_ready: promise

    @override
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Celery's is fulfilled from the start.
        self.on_ready = promise()

    @override
    def ready(self) -> bool:
        return self._state in states.READY_STATES

    @override
    def get(self, *args: Any, **kwargs: Any) -> R_co:
        if self._state == states.PENDING:
            raise CeleryTimeoutError(
                f"The task {self.id} has not run: it was sent on commit, and the transaction of db.session is not "
                "committed. Commit it before you ask for the result."
            )
        return super().get(*args, **kwargs)

    def take(self, made: AsyncResult[Any]) -> None:
        """Become what the task has made."""
        self._state, self._result, self._traceback = made.state, made.result, made.traceback
        self.parent = made.parent
        self.on_ready(self)

    def fail(self, error: Exception) -> None:
        """Become the failure of a task whose call has raised."""
        self._state, self._result = states.FAILURE, error
        self.on_ready(self)


def run_on_commit(session: TaskSession, signature: Signature[Any], *args: object) -> Any:
    """Run a signature when the running transaction of a session is committed, and not before.

    Args:
        session: Whose transaction it is.
        signature: It is left as it is.
        *args: What comes before its own arguments.

    Returns:
        A result with its id, which is pending until then. An error of the task is raised by it, and never
        by the commit.
    """
    mine = _copied(signature)
    result = _awaited(mine)

    def run(_: object) -> None:
        if _is_revoked(result):
            return
        # It is no part of the body that has committed.
        token = committing.set(None)
        try:
            # As what else a commit waits for: meanwhile other coroutines go on, whose transactions may be
            # in the way of this one's.
            made = wait_in_session(in_thread_of_its_own(lambda: mine.apply_async(args or None)))
            _take(result, made)
        except Exception as exc:
            logger.exception("A task that was sent on commit has failed in eager mode")
            _fail(result, exc)
        finally:
            committing.reset(token)

    session.hold((), run, grace_ms=0)
    return result


def _copied(signature: Signature[Any]) -> Signature[Any]:
    """A copy that gets ids of its own, and so do the signatures in it."""
    mine = signature.clone()
    if mine.get("subtask_type") in _COMPOUND:
        parts: dict[str, Any] = dict(mine.kwargs)
        for name in parts.keys() & {"tasks", "header"}:
            part = parts[name]
            parts[name] = _copied(part) if _is_signature(part) else [_copied(one) for one in part]
        if parts.get("body") is not None:
            parts["body"] = _copied(parts["body"])
        mine["kwargs"] = parts
    return mine


def _is_signature(part: object) -> TypeIs[Signature[Any]]:
    return isinstance(part, Signature)


def _awaited(signature: Any) -> Any:
    """The result of a signature, as it is before it has run.

    Celery's own ``freeze`` makes a group's in a way that listens to the result backend for it.
    """
    if isinstance(signature, canvas.group):
        results = [_awaited(one) for one in signature.tasks]
        return TypedGroupResult[Any](uuid(), results, app=signature.app)
    if isinstance(signature, ChainSignature):
        return _awaited(signature.tasks[-1])
    if isinstance(signature, canvas.chord):
        return _awaited(signature.body)
    task_id = signature.freeze().id
    return AwaitedEagerResult[Any](task_id, None, states.PENDING)


def _parts(result: GroupResult) -> list[Any]:
    return result.results or []


def _is_revoked(result: Any) -> bool:
    if isinstance(result, GroupResult):
        return bool(result.results) and all(_is_revoked(one) for one in _parts(result))
    return bool(result.state == states.REVOKED)


def _take(result: Any, made: Any) -> None:
    if not isinstance(result, GroupResult):
        result.take(made)
        return
    parts, done = _parts(result), _parts(made) if isinstance(made, GroupResult) else [made]
    result.parent = made.parent
    if len(parts) == len(done):
        for part, its in zip(parts, done, strict=True):
            _take(part, its)
    else:
        result.results = done


def _fail(result: Any, error: Exception) -> None:
    if not isinstance(result, GroupResult):
        result.fail(error)
        return
    for one in _parts(result):
        _fail(one, error)
