"""kombu: connections, messages and the event loop of the worker.

`Hub._create_poller` and `_close_poller`, and `Hub._poller`, which they set
    For: waiting through an asyncio loop. Each reset of the hub makes a new poller.
    When it is missing: a worker with the asyncio pool starts, and no coroutine in it runs.

`_epoll._epoll` and `_kqueue._kqueue`, in kombu's pollers
    For: the descriptor that tells the asyncio loop that something has happened for the worker.
    When it is missing: a worker with the asyncio pool refuses to start: "needs a system with epoll or
    kqueue".

`Hub.readers`, by descriptor
    For: a descriptor of our own, without which the hub sleeps when it has none, and all tasks with it.
    When it is missing: a worker with the asyncio pool raises AttributeError when it starts.

`Hub.on_tick`
    For: telling Celery in each turn of the worker what has happened to tasks.
    When it is missing: a worker with the asyncio pool raises AttributeError when it starts.

`Hub.call_soon`, by way of `Hub._ready`
    For: interrupting the wait when a coroutine calls it: the hub looks for such calls only before it
    waits.
    When it is missing: acknowledgements may come up to a second late.

`Hub.scheduler`, which `Hub.fire_timers` asks
    For: noticing that a timer has fired: the task with an ETA that it starts may free credit.
    When it is missing: messages may be fetched up to a second later.

`Connection._info`, its argument ``resolve``
    For: a connection of a class of ours with the same parameters, as ``clone()`` makes one.
    When it is missing: sending from an event loop raises AttributeError.

`Connection.Pool`, which makes a `ConnectionPool`, whose `new` makes a `PooledConnection`
    For: connections of a class of ours in the pools of which messages are published.
    When it is missing: making a pool raises TypeError. Where kombu makes them elsewhere, publishing waits without end
    for a RabbitMQ that goes silent.

`Connection._reraise_as_library_errors`
    For: the errors that Celery raises when it publishes.
    When it is missing: publishing from an event loop while the broker is away raises AttributeError.

`Connection.declared_entities`, a set of hashes
    For: not copying a queue and its exchange for each message to see that they have been declared.
    When it is missing: publishing from an event loop raises AttributeError. Where it holds other
    things, publishing takes longer.

`Message._decoded_cache`, which ``decode`` fills, whom ``payload`` calls
    For: reading the bodies of messages by orjson, where it reads them as kombu does.
    When it is missing: kombu's reader, which takes ten times as long.

`Consumer._receive_callback`, which calls ``on_message`` with a message that it gives ``accept``
    For: handing a message of the Redis fast path to the worker without the calls between.
    When it is missing: these calls are made.

`Mailbox._publish`, its arguments ``producer`` and ``channel``
    For: telling workers to revoke a task from an event loop, and not trying that for ever.
    When it is missing: ``await result.arevoke()`` raises AttributeError.

`Producer._channel`, which may be a `ChannelPromise`
    For: seeing that a producer's channel was closed, without connecting.
    When it is missing: publishing from a thread raises AttributeError.

`Connection.alt`
    For: going on with the next of several brokers.
    When it is missing: publishing from an event loop while the broker is away raises AttributeError.

`virtual.Message.__init__`, and the names that it sets, ``_decoded_cache``, ``_raw`` and ``_state`` among them
    For: a message of an ordinary call, made in half of the time.
    When it is missing: a worker on the Redis fast path raises AttributeError at the first message.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import kombu
from kombu.utils.functional import ChannelPromise

__all__ = (
    "Consumer",
    "LimitedProducer",
    "Poller",
    "add_filler",
    "arguments_of",
    "as_library_errors",
    "call_in_each_turn",
    "consumer_of",
    "descriptor_of",
    "fill_message",
    "has_alternatives",
    "has_closed_channel",
    "is_declared",
    "poller_of",
    "publish_control",
    "set_poller",
)


class Poller(Protocol):
    """What kombu's hub uses of a poller."""

    def register(self, fd: int, events: int) -> object: ...
    def unregister(self, fd: int) -> object: ...
    def poll(self, timeout: float | None) -> list[tuple[int, int]] | None: ...
    def close(self) -> None: ...


def poller_of(hub: Any) -> Poller:
    """The poller of a hub that has one."""
    poller: Poller = hub._poller
    return poller


def set_poller(hub: Any, poller: Poller) -> None:
    """Let a hub wait by this poller."""
    hub._poller = poller


def descriptor_of(poller: Poller) -> int | None:
    """The file descriptor that becomes readable when one of the poller's does."""
    # Which of the two it is, is a matter of the system: Linux, or macOS and the BSDs.
    for name in ("_epoll", "_kqueue"):
        polling = getattr(poller, name, None)
        if polling is not None:
            descriptor: int = polling.fileno()
            return descriptor
    return None


def add_filler(hub: Any, descriptor: int, callback: Callable[[], None]) -> None:
    """Let a hub know a descriptor, which the caller registers with the poller."""
    hub.readers[descriptor] = (callback, ())


def call_in_each_turn(hub: Any, callback: Callable[[], None]) -> None:
    """Let a hub call this before it waits."""
    hub.on_tick.add(callback)


def arguments_of(connection: Any) -> dict[str, Any]:
    """The arguments with which a connection like this one is made."""
    return dict(connection._info(resolve=False))


def as_library_errors(connection: Any) -> AbstractContextManager[None]:
    """Raises kombu's OperationalError in the place of an error of the connection's driver."""
    raising: AbstractContextManager[None] = connection._reraise_as_library_errors()
    return raising


def is_declared(connection: Any, entity: Hashable) -> bool:
    """Whether a queue was declared on this connection, and need not be declared again."""
    declared: set[int] = connection.declared_entities
    return hash(entity) in declared


def has_alternatives(connection: Any) -> bool:
    """Whether there is more than one broker."""
    return len(connection.alt) > 1


def has_closed_channel(producer: Any) -> bool:
    """Whether a producer has used a channel that has lost its connection since."""
    channel: Any = producer._channel
    return (
        channel is not None
        and not isinstance(channel, ChannelPromise)
        and channel.connection is None
    )


def publish_control(app: Any, producer: Any, method: str, arguments: dict[str, object]) -> None:
    """Send a command to all workers of an app.

    Raises:
        kombu.exceptions.OperationalError: The broker is away, and was tried as the app's settings for
            publishing say.
    """
    with as_library_errors(producer.connection):
        app.control.mailbox._publish(
            method, arguments, producer=LimitedProducer(app, producer), channel=producer.channel
        )


class LimitedProducer:
    """A producer that is tried as often as the app's settings say; a mailbox tries for ever."""

    def __init__(self, app: Any, producer: Any) -> None:
        self.conf = app.conf
        self.producer = producer
        self.connection = producer.connection

    def publish(self, message: object, **options: Any) -> object:
        """Publish a message; what fails then is kombu's OperationalError."""
        options["retry"] = self.conf.task_publish_retry
        options["retry_policy"] = self.conf.task_publish_retry_policy
        with as_library_errors(self.connection):
            published: object = self.producer.publish(message, **options)
        return published


class Consumer(Protocol):
    """``kombu.Consumer``, as far as messages are handed to it."""

    accept: set[str] | None
    on_message: Callable[[object], object] | None


def consumer_of(callback: object) -> Consumer | None:
    """The consumer whose method, kombu's own, is called with the messages of a queue; None of other callbacks."""
    consumer: Any = getattr(callback, "__self__", None)
    is_kombus = getattr(callback, "__func__", callback) is getattr(
        kombu.Consumer, "_receive_callback", None
    )
    return consumer if is_kombus else None


def fill_message(
    message: Any,
    payload: dict[str, Any],
    channel: object,
    decode: Callable[[str], bytes] = a2b_base64,
) -> bool:
    """Set what ``Message.__init__`` sets, for a body in base64 that is not compressed.

    Args:
        message: It has no attributes yet.
        payload: A message as it was in its queue.
        channel: The channel that delivers it.
        decode: Decodes base64.

    Returns:
        Whether it has done so: else this is a message of another kind.
    """
    properties: dict[str, Any] = payload["properties"]
    headers: dict[str, Any] = payload["headers"]
    body: object = payload.get("body")
    if (
        not (isinstance(body, str) and body and headers)
        or properties.get("body_encoding") != "base64"
        or "compression" in headers
    ):
        return False
    try:
        message.body = decode(body)
    except ValueError:
        return False
    message._raw = payload
    message.errors = []
    message.channel = channel
    message.delivery_tag = properties["delivery_tag"]
    message.content_type = payload.get("content-type")
    message.content_encoding = payload.get("content-encoding")
    message.delivery_info = properties["delivery_info"]
    message.headers = headers
    message.properties = properties
    message._decoded_cache = None
    message._state = "RECEIVED"
    message.accept = None
    return True
