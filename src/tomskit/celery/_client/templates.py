"""Templates: messages of calls without options, without Celery's way to each of them.

Celery and kombu need 0.2 ms to make a message. Of a task that is called without options all are alike,
but for the arguments and the ids. So the second one that Celery has made (the first one declares a
queue) is the template of all that follow, if filling it in with its own arguments and ids gives it back
byte for byte, and if nothing is there that could make another message of other arguments.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import celery
import kombu
from celery import Celery, Task, signals
from celery.app.amqp import AMQP
from celery.app.routes import Router
from celery.utils import uuid
from celery.utils.saferepr import saferepr
from kombu import Producer
from kombu.serialization import dumps as serialize
from kombu.utils.encoding import str_to_bytes
from kombu.utils.json import dumps

import tomskit
from tomskit.celery.fast_redis.batches import Command

if TYPE_CHECKING:
    from celery.result import AsyncResult

    from tomskit.celery._app import AsyncApp
    from tomskit.celery._client.publishing import LoopProducer

__all__ = ("Templates", "Wire")

Wire = tuple[Sequence[object], Mapping[str, object]]
"""Arguments, as they are sent."""

_TRIES: Final = 3
"""How many messages of a task may turn out to be no templates, until no more are looked at."""

_EMBEDDED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_SIGNALS: Final = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)
_CALLED_OF_TASK: Final[Sequence[str]] = ("delay", "apply_async", "shadow_name", "AsyncResult")
_CALLED: Final = (
    (Task, "apply_async"),
    (Task, "shadow_name"),
    (Celery, "send_task"),
    (AMQP, "as_task_v2"),
    (Producer, "publish"),
)
"""What is on Celery's way. Tracing libraries put something of their own in the place of some."""
_PACKAGES: Final = tuple(
    str(Path(str(package.__file__)).parent) for package in (celery, kombu, tomskit)
)


class Templates:
    """The templates that are known in an event loop.

    Args:
        app: Whose tasks are sent.
        producer: Sends them.
    """

    def __init__(self, app: AsyncApp, producer: LoopProducer) -> None:
        self._app = app
        self._producer = producer
        self._known: dict[str, _Template] = {}
        self._failures: dict[str, int] = {}
        self._settings: dict[str, object] | None = None
        self._are_possible = False

    def has(self, task: Task[..., Any]) -> bool:
        """Whether Celery would send a message now that is like the template."""
        template = self._known.get(task.name)
        return (
            template is not None
            and template.task is task
            and template.ignore_result == task.ignore_result
            and not _is_replaced(task)
            and self._settings == _settings(self._app)
            and not _are_connected()
            and all(getattr(owner, name) is found for owner, name, found in template.made_by)
            and self._app.current_worker_task is None
        )

    def may_learn(self, task: Task[..., Any]) -> bool:
        """Whether the next message that Celery makes of this task may be a template."""
        settings = _settings(self._app)
        if self._settings != settings:
            self._settings = settings.copy()
            self._known.clear()
            self._failures.clear()
            self._are_possible = _are_possible(self._app)
        return (
            self._are_possible
            and not _are_connected()
            and self._failures.get(task.name, 0) < _TRIES
            and not _is_replaced(task)
            and self._app.current_worker_task is None
        )

    def learn(
        self, task: Task[..., Any], wire: Wire, task_id: str, commands: Sequence[Command]
    ) -> None:
        """Take what Celery has sent for a call as the template of the next calls, if it is one."""
        if task.name in self._known or self._failures.get(task.name, 0) >= _TRIES:
            return  # many were on their way
        template = None
        if len(commands) == 1 and commands[0][0] == "LPUSH" and _is_plain(task):
            template = _template(task, wire, task_id, commands[0])
        if template is None:
            self._failures[task.name] = self._failures.get(task.name, 0) + 1
        else:
            self._known[task.name] = template

    async def send(self, task: Task[..., Any], wire: Wire) -> AsyncResult[Any]:
        """Send a call of a task of which `has` says that there is a template.

        Raises:
            kombu.exceptions.OperationalError: The broker is not there.
        """
        template = self._known[task.name]
        task_id = uuid()
        message = template.filled(wire, task_id, uuid())
        await self._producer.push(template.key, message.encode())
        result = task.AsyncResult(task_id)
        cast("_Result", result).ignored = template.ignore_result
        return result


class _Template:
    """A message, as text to be filled in."""

    def __init__(self, task: Task[..., Any], key: str, text: str) -> None:
        self.task = task
        self.key = key
        self.ignore_result = task.ignore_result
        self.made_by = [
            (owner, name, getattr(owner, name))
            for owner, name in (*_CALLED, *((type(task), name) for name in _CALLED_OF_TASK))
        ]
        app = cast("_App", task.app)
        self._text = text
        self._serializer: str = task.serializer or app.conf.task_serializer
        self._repr_sizes = app.amqp.argsrepr_maxsize, app.amqp.kwargsrepr_maxsize
        self._repr_levels: int = app.conf.task_repr_maxlevels

    def filled(self, wire: Wire, task_id: str, tag: str) -> str:
        args, kwargs = wire
        _, _, body = serialize((args, kwargs, _EMBEDDED), self._serializer)
        size_of_args, size_of_kwargs = self._repr_sizes
        return self._text % {
            "body": base64.b64encode(str_to_bytes(body)).decode("ascii"),
            "id": task_id,
            "tag": tag,
            "args": self._repr(args, size_of_args) if args else '"()"',
            "kwargs": self._repr(kwargs, size_of_kwargs) if kwargs else '"{}"',
        }

    def _repr(self, value: object, size: int) -> str:
        return json.dumps(saferepr(value, size, maxlevels=self._repr_levels))


def _template(task: Task[..., Any], wire: Wire, task_id: str, command: Command) -> _Template | None:
    _, key, sent = cast("tuple[str, str, str]", command)
    message = json.loads(sent)
    headers, properties = message["headers"], message["properties"]
    tag = properties["delivery_tag"]
    fields = {name: uuid() for name in ("body", "id", "tag", "args", "kwargs")}
    message["body"] = fields["body"]
    headers["id"] = headers["root_id"] = properties["correlation_id"] = fields["id"]
    headers["argsrepr"], headers["kwargsrepr"] = fields["args"], fields["kwargs"]
    properties["delivery_tag"] = fields["tag"]
    text = dumps(message).replace("%", "%%")
    for name, mark in fields.items():
        found = f'"{mark}"' if name in {"args", "kwargs"} else mark
        text = text.replace(found, f"%({name})s")
    template = _Template(task, key, text)
    return template if template.filled(wire, task_id, tag) == sent else None


def _settings(app: AsyncApp) -> dict[str, object]:
    return cast("_Changed", app.conf).changes


def _are_connected() -> bool:
    """Whether somebody wants to see or to change messages."""
    return any(signal.receivers for signal in cast("tuple[_Signal, ...]", _SIGNALS))


def _are_possible(app: AsyncApp) -> bool:
    """Whether messages of an app depend on nothing but the task."""
    known = cast("_App", app)
    amqp = known.amqp
    return (
        known.conf.task_protocol == 2  # noqa: PLR2004 (a name rather than a number)
        and not known.conf.task_send_sent_event
        and type(amqp.router) is Router
        and not cast("_Routes", amqp.router).routes
        and all(map(_is_known, (app.send_task, amqp.create_task_message, amqp.send_task_message)))
        and all(_is_known(getattr(owner, name)) for owner, name in _CALLED)
    )


def _is_replaced(task: Task[..., Any]) -> bool:
    """Whether a method has been replaced on the task itself, as tests and tracing libraries do."""
    return not vars(task).keys().isdisjoint(_CALLED_OF_TASK)


def _is_plain(task: Task[..., Any]) -> bool:
    """Whether messages of a task depend on nothing but its arguments."""
    options = cast("_Options", task)._get_exec_options()  # noqa: SLF001
    return options.get("expires") is None and all(
        _is_known(getattr(task, name)) for name in _CALLED_OF_TASK
    )


def _is_known(function: object) -> bool:
    """Whether a function is Celery's, kombu's or ours, not what somebody has put in its place."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename.startswith(_PACKAGES)


class _Result(Protocol):
    ignored: bool


class _Signal(Protocol):
    receivers: Sequence[object] | None


class _Changed(Protocol):
    changes: dict[str, object]


class _Options(Protocol):
    def _get_exec_options(self) -> Mapping[str, object]: ...


class _Routes(Protocol):
    routes: Sequence[object]


class _AMQP(Protocol):
    argsrepr_maxsize: int
    kwargsrepr_maxsize: int
    router: object
    create_task_message: object
    send_task_message: object


class _App(Protocol):
    amqp: _AMQP
    conf: Any
