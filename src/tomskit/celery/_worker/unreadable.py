"""Messages that no worker can read, each of which is rejected once, with the reason; and commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeGuard

import vine
from celery import signals
from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger
from celery.utils.saferepr import saferepr
from celery.utils.time import maybe_iso8601
from kombu.exceptions import OperationalError
from kombu.pidbox import Node
from redis.exceptions import RedisError
from typing_extensions import override

from tomskit.celery._internals.celery_worker import Consumer, renew_strategy
from tomskit.celery.fast_redis.calls import Arguments, ordinary_call
from tomskit.celery.fast_redis.parts import in_front
from tomskit.celery.fast_redis.payloads import ERRORS_OF_DATA, is_object, is_text
from tomskit.redis.away import as_python_shows, is_refused

if TYPE_CHECKING:
    from celery.worker import consumer as celery_consumer

__all__ = ("GuardedConsumer", "GuardedNode", "guarded_consumer", "problem_of")

logger: Final = get_logger(__name__)

_shown: Final = partial(saferepr, maxlen=1000)


class TaskMessage(Protocol):
    """``kombu.Message``, as far as it is looked at here."""

    headers: Mapping[str, object]
    properties: Mapping[str, object]
    content_type: str
    acknowledged: bool

    @property
    def payload(self) -> object:
        """The decoded body."""
        ...

    def decode(self) -> object:
        """The same."""
        ...

    def reject_log_error(
        self, logger: object, errors: tuple[type[Exception], ...], requeue: bool = False
    ) -> None: ...


class GuardedConsumer(Consumer):
    """Put in front of a class of consumers, rejects messages that it would fail with.

    Celery rejects some of them itself. With others it ends, and the worker with it; a task that
    acknowledges late would end the next worker as well.
    """

    connection_errors: tuple[type[Exception], ...]

    @override
    def create_task_handler(
        self, promise: Callable[..., object] = vine.promise
    ) -> Callable[..., object]:
        handle = super().create_task_handler(promise=promise)

        def guarded(message: TaskMessage) -> None:
            try:
                call = ordinary_call(message)
                problem = None if call is not None else problem_of(message)
                if problem is None:
                    if call is None or not self.take(message, call):
                        handle(message)
                    return
            except ERRORS_OF_DATA as exc:
                problem = repr(exc)
            self._reject(message, problem)

        return guarded

    def take(self, message: TaskMessage, call: Arguments) -> bool:  # noqa: ARG002
        """Take an ordinary call without Celery's handler; whether it did. Subclasses may do so."""
        return False

    @override
    def on_decode_error(self, message: TaskMessage, exc: Exception) -> None:
        """Called for a message whose body cannot be unpacked."""
        self._reject(message, repr(exc))

    def _reject(self, message: TaskMessage, problem: str) -> None:
        logger.critical(
            "Rejected a message that no worker can read: %s. Its headers are %s, its properties %s",
            problem,
            _shown(message.headers),
            _shown(message.properties),
        )
        # An acknowledgement of the task may be on its way, in the next turn, which has no order.
        self.call_soon(self.call_soon, self._settle, message)
        signals.task_rejected.send(sender=self, message=message, exc=InvalidTaskError(problem))

    def _settle(self, message: TaskMessage) -> None:
        if not message.acknowledged:
            message.reject_log_error(logger, self.connection_errors)


class GuardedNode(Node):
    """Remote control that drops commands which cannot be read, and answers which the broker refuses.

    With Celery's own the worker subscribes anew after each, and now and then hears nothing any more.
    """

    _is_refused = False

    @override
    def handle_message(self, body: Any, message: Any = None) -> None:
        if not _has_limits(body):
            # Celery takes them as they are, and each later task of that name would fail, or end the worker.
            logger.critical(
                "Dropped a command of remote control: no number of seconds in %s", _shown(body)
            )
            return
        try:
            super().handle_message(body, message)
        except ERRORS_OF_DATA as exc:
            logger.critical("Dropped a command of remote control: %r. It is %s", exc, _shown(body))

    @override
    def handle(self, method: str, arguments: dict[str, Any] | None = None) -> object:
        reply: object = super().handle(method, arguments)
        if method == "time_limit" and arguments and self.state is not None:
            # The limits that a pool of processes enforces are those of when the worker began.
            renew_strategy(self.state.consumer, arguments.get("task_name"))
        return reply

    @override
    def reply(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().reply(*args, **kwargs)
        except (OperationalError, RedisError) as exc:
            refusal = exc.__cause__ or exc
            if not is_refused(refusal):
                raise
            if not self._is_refused:
                self._is_refused = True
                logger.error(  # noqa: TRY400 (a traceback says no more)
                    "Cannot answer commands of remote control: the broker refuses it: %s. Grant it "
                    "(ACL SETUSER); until then whoever asks hears nothing of this worker.",
                    as_python_shows(refusal),
                )
        else:
            self._is_refused = False


def guarded_consumer(
    base: type[celery_consumer.Consumer],
) -> type[celery_consumer.Consumer]:
    """`base`, which messages that cannot be read do not end."""
    return in_front(base, GuardedConsumer)


def problem_of(message: TaskMessage) -> str | None:
    """Why a message is no call of a task, in either of Celery's protocols; None if it is one.

    Raises:
        Exception: Its body cannot be decoded.
    """
    call: Mapping[str, Any] = message.headers
    body: Any = message.payload
    args: object
    kwargs: object
    embed: object
    if is_object(body):
        # The first protocol, whose headers are in the body.
        if "task" in call and "args" not in body:
            return "its body is an object, and has no args"
        call = {**body, **call}
        args, kwargs, embed = body.get("args", ()), body.get("kwargs", {}), body
    elif _is_list(body) and len(body) == len(("args", "kwargs", "embed")):
        args, kwargs, embed = body
    else:
        return f"its body is not a list of args, kwargs and embed: {_shown(body)}"
    if not _is_list(args):
        return f"its args are not a list: {_shown(args)}"
    if not is_object(kwargs) or not all(type(name) is str for name in kwargs):
        return f"its kwargs are not an object: {_shown(kwargs)}"
    if embed is None:
        # Celery takes it for an empty one, and producers in other languages send it.
        embed = {}
    if not is_object(embed):
        return f"what follows its kwargs is not an object: {_shown(embed)}"
    return (
        _misfit(call, _OF_CALL)
        or _misfit(embed, _OF_EMBED)
        or _misfit(message.properties, _OF_PROPERTIES)
    )


def _misfit(
    found: Mapping[str, Any], checks: Mapping[str, tuple[Callable[[Any], bool], str]]
) -> str | None:
    for name, (fits, what) in checks.items():
        value = found.get(name)
        if value is None and fits is not _is_name:
            continue  # only these have to be there, and most are not
        if not fits(value):
            return f"its {name} is not {what}: {_shown(value)}"
    return None


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, (list, tuple))


def _is_name(value: Any) -> bool:
    return bool(value) and is_text(value)


def _is_text_or_none(value: Any) -> bool:
    return value is None or is_text(value)


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0)


def _is_time(value: Any) -> bool:
    if value is None:
        return True
    try:
        return maybe_iso8601(value) is not None
    except ERRORS_OF_DATA:
        return False


def _are_limits(value: Any) -> bool:
    if not value:
        return value in (None, [], ())
    if not _is_list(value) or len(value) != len(("hard", "soft")):
        return False
    return all(limit is None or _is_number(limit) for limit in value)


def _has_limits(command: Any) -> bool:
    """Whether a command of remote control sets no time limits, or some that can be."""
    arguments = command.get("arguments") if is_object(command) else None
    if not is_object(arguments) or command.get("method") != "time_limit":
        return True
    return _are_limits([arguments.get("hard"), arguments.get("soft")])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _is_object_or_none(value: Any) -> bool:
    return value is None or is_object(value)


def _are_signatures(value: Any) -> bool:
    return value is None or (_is_list(value) and all(_is_signature(item) for item in value))


def _is_signature(value: Any) -> bool:
    return is_object(value) and is_text(value.get("task")) and is_object(value.get("options"))


def _is_signature_or_none(value: Any) -> bool:
    return value is None or _is_signature(value)


def _are_texts(value: Any) -> bool:
    return value is None or (_is_list(value) and all(is_text(item) for item in value))


_NAME: Final = (_is_name, "a text")
_TEXT: Final = (_is_text_or_none, "a text")
_TIME: Final = (_is_time, "a time in ISO 8601")
_SIGNATURES: Final = (_are_signatures, "a list of signatures")

_OF_CALL: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "task": _NAME,
    "id": _NAME,
    "root_id": _TEXT,
    "parent_id": _TEXT,
    "group": _TEXT,
    "shadow": _TEXT,
    "retries": (_is_count, "a number of retries"),
    "timelimit": (_are_limits, "a pair of seconds"),
    "eta": _TIME,
    "expires": _TIME,
    "stamps": (_is_object_or_none, "an object"),
    "stamped_headers": (_are_texts, "a list of texts"),
}
_OF_EMBED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "callbacks": _SIGNATURES,
    "errbacks": _SIGNATURES,
    "chain": _SIGNATURES,
    "chord": (_is_signature_or_none, "a signature"),
}
_OF_PROPERTIES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "correlation_id": _TEXT,
    "reply_to": _TEXT,
}
