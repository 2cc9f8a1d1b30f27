"""Templates: messages of calls without options, without Celery's publish path.

Celery and kombu need 0.2 ms to make a message. The messages of a task that is called without options
differ only in arguments and ids. So the second message that Celery makes (the first one declares a
queue) is the template of all later ones, if filling in its own arguments and ids gives the same message
byte for byte, and if nothing is installed that could change a message by its arguments.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import celery
import kombu
from celery import signals
from celery.utils import uuid
from celery.utils.saferepr import saferepr
from kombu.serialization import dumps as serialize
from kombu.utils.encoding import str_to_bytes
from kombu.utils.json import dumps
from typing_extensions import override

import tomskit
from tomskit.celery._internals.celery_app import changes_of
from tomskit.celery._internals.celery_messages import (
    PUBLISH_PATH,
    TASK_METHODS,
    call_options_of,
    messages_of,
    routes_by_default,
)
from tomskit.celery._internals.redis_connections import Command

if TYPE_CHECKING:
    from celery import Task
    from celery.result import AsyncResult

    from tomskit.celery._app import AsyncApp
    from tomskit.celery._client.publishing import LoopProducer

__all__ = ("KnownTemplates", "Template", "Templates", "Wire", "is_known", "is_plain")

K = TypeVar("K", bound="Template")

Wire = tuple[Sequence[object], Mapping[str, object]]
"""Arguments, as they are sent."""

_TRIES: Final = 3
"""How many messages of a task may be unfit as templates before it gets none."""

_EMBEDDED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_SIGNALS: Final = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)
_PACKAGES: Final = tuple(
    str(Path(str(package.__file__)).parent) for package in (celery, kombu, tomskit)
)


class KnownTemplates(Generic[K]):
    """The templates of some kind that are known in an event loop.

    Args:
        app: Whose tasks are sent.
    """

    def __init__(self, app: AsyncApp) -> None:
        self._app = app
        self._known: dict[str, K] = {}
        self._failures: dict[str, int] = {}
        self._settings: dict[str, object] | None = None
        self._are_possible = False

    def find(self, task: Task[..., Any]) -> K | None:
        """The template of a task, if Celery would make a message now that is like it."""
        template = self._known.get(task.name)
        if (
            template is not None
            and template.task is task
            and template.ignore_result == task.ignore_result
            and not _is_replaced(task)
            and self._settings == changes_of(self._app)
            and not _are_connected()
            and all(getattr(owner, name) is found for owner, name, found in template.made_by)
        ):
            return template
        return None

    def may_learn(self, task: Task[..., Any]) -> bool:
        """Whether the next message that Celery makes for this task may be a template."""
        settings = changes_of(self._app)
        if self._settings != settings:
            self._settings = settings.copy()
            self._known.clear()
            self._failures.clear()
            self._are_possible = self.are_possible()
        return (
            self._are_possible
            and not _are_connected()
            and self._failures.get(task.name, 0) < _TRIES
            and not _is_replaced(task)
        )

    def are_possible(self) -> bool:
        """Whether messages of the app depend on the task only, with its settings as they are."""
        return _are_possible(self._app)

    def keep(self, task: Task[..., Any], template: K | None) -> None:
        """Keep a template; None if a message was unfit for one."""
        if template is None:
            self._failures[task.name] = self._failures.get(task.name, 0) + 1
        else:
            self._known[task.name] = template


class Templates(KnownTemplates["_Template"]):
    """The templates of messages to Redis.

    Args:
        app: Whose tasks are sent.
        producer: Sends them.
    """

    def __init__(self, app: AsyncApp, producer: LoopProducer) -> None:
        super().__init__(app)
        self._producer = producer

    def has(self, task: Task[..., Any]) -> bool:
        """Whether Celery would send a message now that is like the template."""
        return self.find(task) is not None and self._app.current_worker_task is None

    @override
    def may_learn(self, task: Task[..., Any]) -> bool:
        return super().may_learn(task) and self._app.current_worker_task is None

    def learn(
        self, task: Task[..., Any], wire: Wire, task_id: str, commands: Sequence[Command]
    ) -> None:
        """Take what Celery has sent for a call as the template of later calls, if it is fit."""
        if task.name in self._known or self._failures.get(task.name, 0) >= _TRIES:
            return  # several calls were being sent at once
        template = None
        match commands:
            case [("LPUSH", str(key), str(message))] if is_plain(task):
                template = _template(task, wire, task_id, key, message)
            case _:
                pass
        self.keep(task, template)

    async def send(self, task: Task[..., Any], wire: Wire) -> AsyncResult[Any]:
        """Send a call of a task of which `has` says that there is a template.

        Raises:
            kombu.exceptions.OperationalError: The broker is away.
        """
        template = self._known[task.name]
        task_id = uuid()
        message = template.filled(wire, task_id, uuid())
        await self._producer.push(template.key, message.encode())
        result = task.AsyncResult(task_id)
        result.ignored = template.ignore_result
        return result


class Template:
    """A text of a message, with gaps for arguments and ids."""

    def __init__(self, task: Task[..., Any], text: str) -> None:
        self.task = task
        self.ignore_result = task.ignore_result
        self.made_by = [
            (owner, name, getattr(owner, name))
            for owner, name in (*PUBLISH_PATH, *((type(task), name) for name in TASK_METHODS))
        ]
        conf, messages = task.app.conf, messages_of(task.app)
        self._text = text
        self._serializer: str = task.serializer or conf.task_serializer
        self._repr_sizes = messages.argsrepr_maxsize, messages.kwargsrepr_maxsize
        self._repr_levels: int = conf.task_repr_maxlevels

    def body(self, wire: Wire) -> bytes:
        """The body of a message with these arguments."""
        args, kwargs = wire
        _, _, body = serialize((args, kwargs, _EMBEDDED), self._serializer)
        return str_to_bytes(body)

    def fill(self, wire: Wire, **gaps: str) -> str:
        """The text with the arguments as events show them, and whatever else is in its gaps."""
        args, kwargs = wire
        size_of_args, size_of_kwargs = self._repr_sizes
        gaps["args"] = self._repr(args, size_of_args) if args else '"()"'
        gaps["kwargs"] = self._repr(kwargs, size_of_kwargs) if kwargs else '"{}"'
        return self._text % gaps

    def _repr(self, value: object, size: int) -> str:
        return json.dumps(saferepr(value, size, maxlevels=self._repr_levels))


class _Template(Template):
    """A message as it is put into a list in Redis."""

    def __init__(self, task: Task[..., Any], key: str, text: str) -> None:
        super().__init__(task, text)
        self.key = key

    def filled(self, wire: Wire, task_id: str, tag: str) -> str:
        body = base64.b64encode(self.body(wire)).decode("ascii")
        return self.fill(wire, body=body, id=task_id, tag=tag)


def _template(
    task: Task[..., Any], wire: Wire, task_id: str, key: str, sent: str
) -> _Template | None:
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


def _are_connected() -> bool:
    """Whether a receiver of a signal sees messages, and may change them."""
    return any(signal.receivers for signal in _SIGNALS)


def _are_possible(app: AsyncApp) -> bool:
    """Whether messages of an app depend on the task only."""
    messages = messages_of(app)
    functions = (app.send_task, messages.create_task_message, messages.send_task_message)
    return (
        app.conf.task_protocol == 2  # noqa: PLR2004 (a name rather than a number)
        and not app.conf.task_send_sent_event
        and routes_by_default(app)
        and all(map(is_known, functions))
        and all(is_known(getattr(owner, name)) for owner, name in PUBLISH_PATH)
    )


def _is_replaced(task: Task[..., Any]) -> bool:
    """Whether a method has been replaced on the task itself, as tests and tracing libraries do."""
    return not vars(task).keys().isdisjoint(TASK_METHODS)


def is_plain(task: Task[..., Any]) -> bool:
    """Whether messages of a task depend on its arguments only."""
    return call_options_of(task).get("expires") is None and all(
        is_known(getattr(task, name)) for name in TASK_METHODS
    )


def is_known(function: object) -> bool:
    """Whether a function is Celery's, kombu's or ours, not one that has replaced it."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename.startswith(_PACKAGES)
