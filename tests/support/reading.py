"""What must hold of every text that a worker may find in its queue: one message, read in this process."""

import base64
import json
from typing import Any, Final

from celery import Celery
from celery.exceptions import InvalidTaskError
from celery.worker import strategy
from celery.worker.request import Request
from kombu import Connection
from kombu.utils.json import loads

from tests.support import hostile
from tomskit.celery._worker.unreadable import problem_of
from tomskit.celery.fast_redis.calls import ordinary_call
from tomskit.celery.fast_redis.guarded import GuardedChannel
from tomskit.celery.fast_redis.payloads import (
    ERRORS_OF_DATA,
    decoded_json,
    is_object,
    readable,
)

__all__ = ("SEPARATOR", "check", "wrapped")

SEPARATOR: Final = b"\0\0"
"""Between the envelope and the body of a message, where the two come apart."""

_app = Celery("reader", broker="memory://", set_as_current=False)
_channel: Any = Connection("memory://").channel()
_channel.checked = True  # as `check` has what it reads go through `readable` first
_message_class: Any = GuardedChannel.Message


@_app.task(name="add")
def _add(left: int, right: int) -> int:
    return left + right


def wrapped(data: bytes) -> bytes:
    """A message of arbitrary bytes: as they are, or with a body that is encoded as it has to be.

    A change of the text of a body hardly ever leaves base64 that holds JSON.
    """
    envelope, separator, body = data.partition(SEPARATOR)
    if not separator:
        return data
    try:
        message = json.loads(envelope) if envelope else hostile.call(1, 2)
        return json.dumps({**message, "body": base64.b64encode(body).decode()}).encode()
    except (TypeError, ValueError, RecursionError):
        return data


def check(data: bytes) -> bool:
    """Read a message as a worker does. Whether a worker would run it.

    Raises:
        AssertionError: It is read differently by our reader and by kombu's.
        Exception: The worker would end.
    """
    raw = wrapped(data)
    ours = decoded_json(raw)
    if ours is not None:
        assert _same(ours, loads(raw.decode())), f"read as {ours!r}"
    try:
        payload = readable(loads(raw.decode()) if ours is None else ours, "celery")
    except ERRORS_OF_DATA:
        return False
    message = _message_class(payload, channel=_channel)
    if message.errors:
        return False  # left to the consumer, which rejects it
    try:
        ordinary = ordinary_call(message)
        problem = problem_of(message)
    except ERRORS_OF_DATA:
        return False
    assert ordinary is None or problem is None, f"nothing special about it, but {problem}"
    if problem is not None:
        return False
    body = message.payload
    if message.content_type == "application/json":
        assert _same(body, loads(message.body)), f"the body is read as {body!r}"
    try:
        request = _request(message, body)
    except InvalidTaskError:
        return False
    request.info()
    request.revoked()
    return True


def _request(message: Any, body: Any) -> Any:
    """A request, made as Celery's strategy makes it."""
    make: Any = Request
    if not is_object(body):
        return make(message, app=_app, hostname="here", task=_add)
    celery: Any = strategy
    convert = celery.hybrid_to_proto2 if "args" in body else celery.proto1_to_proto2
    payload, headers, is_decoded, is_utc = convert(message, body)
    if "id" not in headers:
        # In the first protocol it has to stand in the body. Celery fails without, and our consumer rejects it.
        raise InvalidTaskError("no id")
    return make(
        message,
        app=_app,
        hostname="here",
        task=_add,
        body=payload,
        headers=headers,
        decoded=is_decoded,
        utc=is_utc,
    )


def _same(ours: object, theirs: object) -> bool:
    """Whether two values are equal and of the same types, NaN included."""
    # In the text NaN is equal to NaN, and 1 differs from 1.0 and from True.
    return repr(ours) == repr(theirs)
