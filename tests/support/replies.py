"""States that a client of ``rpc://`` is sent, without a worker."""

from celery.app.task import Context

from tests.support.contracts import untyped
from tomskit.celery import TypedResult

__all__ = ("say",)


def say(result: TypedResult[int], state: str, value: object = None) -> None:
    """Send a state of a task to its client, as a worker does."""
    oid = untyped(result.backend).oid
    result.backend.store_result(
        result.id, value, state, request=Context(reply_to=oid, correlation_id=result.id)
    )
