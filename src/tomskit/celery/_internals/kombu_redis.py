# ruff: noqa: N802 (they are kombu's)
"""kombu: its Redis transport, of whose classes ours are subclasses.

`Channel._create_client`, its argument ``asynchronous``
    For: a client that waits in the event loop, and one client for all commands of a worker.
    When it is missing: sending from an event loop blocks it; a worker makes a client for each command.

`Channel._get_pool`, its argument ``asynchronous``
    For: acknowledging after the connection was lost what had been delivered by it.
    When it is missing: what was delivered when the connection was lost comes again after the
    visibility timeout.

`Channel._connparams`, its argument ``asynchronous``
    For: RESP3, in which Redis tells on the same connection that a queue has changed; classes of ours for Unix sockets.
    When it is missing: the worker falls back to BRPOP, with a warning.

`Channel._do_restore_message`
    For: giving a message back: it says to which lists it goes.
    When it is missing: rejecting a message with requeue raises AttributeError.

`Channel._queue_cycle`, its ``consume`` and ``rotate``
    For: the order in which messages are taken from several queues.
    When it is missing: a worker on the Redis fast path raises AttributeError when it fetches.

`Channel._q_for_pri`
    For: the name of the list of a queue and a priority.
    When it is missing: a worker on the Redis fast path raises AttributeError when it fetches.

`Channel._in_poll`
    For: not fetching while kombu itself waits with BRPOP, giving up the connection on which it waits in
    vain, and reading the answer before that is closed. It is also what kombu's re-authentication looks at: it is False while the fast path waits.
    When it is missing: a worker on the Redis fast path raises AttributeError when it fetches. Where it
    means something else, two readers share one connection.

`Channel._flush_brpop_reauth`, which `Channel.maybe_reauth` calls
    For: sending a new token of a credential provider on the connection that fetches messages.
    When it is missing: such a connection is lost when its first token expires, and made anew.

`Channel._queue_bind`, `_refresh_bindings` and `_expires`
    For: binding queues that expire, and keeping them bound, where scripts are not allowed.
    When it is missing: a worker without permission to run scripts ends with a line that says so; in the log of
    one that loses it is a traceback each second.

`Channel.active_queues`, `priority_steps`, `global_keyprefix`, `ack_emulation`, `do_restore`,
`unacked_key`, `unacked_index_key`, `brpop_timeout`, `socket_timeout` and `socket_connect_timeout`
    For: kombu's own keys and settings, so that stock workers and producers work beside ours.
    When it is missing: a worker with Redis raises AttributeError when it connects.

`Channel.handlers`, what reads the answers to BRPOP and of subscriptions
    For: dropping a message that is not one of kombu's, and the last answer to BRPOP.
    When it is missing: a worker with Redis raises AttributeError when it connects.

`Transport._callbacks`, by queue, which `Channel.basic_consume` sets, and `_deliver`, which calls them
    For: mending or dropping a message that kombu's consumer would fail with; `_deliver` for one without a consumer.
    When it is missing: a worker with Redis raises AttributeError when it starts to consume. Where kombu
    calls others instead, a message that cannot be read ends the worker.

`Channel.QoS`, `Channel.connection_class`, `Channel.connection_class_ssl` and `Transport.Channel`
    For: making these parts of classes of ours.
    When it is missing: a worker with Redis raises AttributeError when it connects.

`Channel.conn_or_acquire`
    For: a client for a command, and not one whose connection is most likely dead.
    When it is missing: acknowledging raises AttributeError.

`QoS._delivered` and `_dirty`
    For: which messages are not acknowledged, when the connection is lost.
    When it is missing: the worker cannot connect again: AttributeError in the log.

`QoS.append`, `ack`, `reject`, `restore_by_tag`, `restore_unacked` and `restore_visible`
    For: recording, acknowledging and giving back many messages at once.
    When it is missing: a worker with Redis raises AttributeError. Where kombu calls others instead,
    messages are acknowledged one by one.

`QoS.restore_by_tag`, which uses ``transaction`` of the client that it is given
    For: giving a message back in a transaction that ends when the connection is lost.
    When it is missing: a worker that gives messages back to a server that refuses to write asks it again and
    again, and does nothing else until it does not refuse any more.

`QoS.restore_visible`, which calls ``restore_by_tag`` with each tag and a client, and `visibility_timeout`
    For: giving back many messages that a killed worker has held in two calls of Redis.
    When it is missing: they are given back one by one; without the attribute not at all, and the log has an
    AttributeError.

`virtual.QoS.append` and `ack`
    For: the same in the memory of the worker only, where Redis is told by other means.
    When it is missing: an import of tomskit.celery.fast_redis raises AttributeError.

`Message._raw`
    For: the message as it was in its queue.
    When it is missing: rejecting a message with requeue raises AttributeError.

`Transport.channels`, `Channel._pool`, `_async_pool` and `auto_delete_queues`
    For: closing a connection that is lost without waiting for answers.
    When it is missing: the worker cannot connect again: AttributeError in the log.

`Transport.cycle`, a `MultiChannelPoller`
    For: fetching in each turn of the worker.
    When it is missing: the worker waits with BRPOP, as plain Celery does.

`MultiChannelPoller._channels`, `_fd_to_chan`, `_client_registered` and `_register`
    For: the channels of a worker, and their connections.
    When it is missing: a worker on the Redis fast path raises AttributeError when it polls.

`MultiChannelPoller._register_BRPOP`
    For: fetching in the place of BRPOP, and knowing when it was sent.
    When it is missing: the worker waits with BRPOP, as plain Celery does.

`MultiChannelPoller.on_poll_start` and `on_readable`
    For: writing to Redis in each turn of the worker, and reading its answers.
    When it is missing: a worker on the Redis fast path raises AttributeError when it polls.

`round_robin_cycle`
    For: taking messages from several queues in turn in one script, where that is kombu's order.
    When it is missing: an import of tomskit.celery.fast_redis raises ImportError.

`GlobalKeyPrefixMixin.execute_command` and `pipeline`, which call ``super()``
    For: the global key prefix in commands that wait in the event loop. It is put in front of the keys of
    some commands only, and not of HEXISTS and EVAL.
    When it is missing: publishing with ``global_keyprefix`` raises AttributeError.

The records of unacknowledged messages: a hash of ``[message, exchange, routing key]`` in JSON by tag,
and a sorted set of times by tag, as `QoS.append` makes them
    For: scripts that record messages and give them back.
    When it is missing: stock workers cannot give back what ours have not acknowledged, nor ours what
    they have not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol

import redis
from kombu.transport import virtual
from kombu.utils.scheduling import round_robin_cycle

if TYPE_CHECKING:
    from tomskit.celery._internals.redis_connections import Connection

__all__ = (
    "Channel",
    "Client",
    "Message",
    "MultiChannelPoller",
    "Pushes",
    "QoS",
    "Transport",
    "acknowledge_in_memory",
    "asked_connection_of",
    "callbacks_of",
    "channels_of",
    "expiring_queues_of",
    "lists_of",
    "next_queues",
    "plain_pipeline",
    "record_in_memory",
    "reject_unconsumed",
    "replace_callback",
    "restore_message",
    "restore_payload",
    "takes_in_turn",
    "unacknowledged_tags",
)


class Message(Protocol):
    """``kombu.transport.virtual.Message``."""

    delivery_tag: str
    delivery_info: Mapping[str, object]
    _raw: dict[str, Any]


class Pushes(Protocol):
    """A client, or what collects commands in its place."""

    def lpush(self, key: str, value: str) -> object: ...
    def rpush(self, key: str, value: str) -> object: ...


class _Pipeline(Protocol):
    def execute_command(self, *command: object) -> object: ...
    def execute(self) -> list[object]: ...


class Client(Pushes, Protocol):
    """``redis.Redis``."""

    connection: Connection
    connection_pool: redis.ConnectionPool

    def hdel(self, name: str, key: str) -> int: ...
    def hget(self, name: str, key: str) -> bytes | None: ...
    def zrem(self, name: str, tag: str) -> int: ...
    def zrange(self, name: str, start: float, end: float, *, byscore: bool) -> list[bytes]: ...


class _Cycle(Protocol):
    def consume(self, n: int) -> list[str]: ...
    def rotate(self, last_used: str) -> None: ...


if TYPE_CHECKING:

    class QoS:
        """``kombu.transport.redis.QoS``."""

        channel: Any
        _delivered: dict[str, Message]
        _dirty: set[str]

        def __init__(self, *args: object, **kwargs: object) -> None: ...
        def can_consume(self) -> bool: ...
        def can_consume_max_estimate(self) -> int | None: ...
        def append(self, message: Message, delivery_tag: str) -> None: ...
        def ack(self, delivery_tag: str) -> None: ...
        def reject(self, delivery_tag: str, requeue: bool = False) -> None: ...
        def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None: ...
        def restore_visible(self, *args: object, **options: object) -> None: ...
        def restore_unacked(self, client: Client | None = None) -> None: ...

        @property
        def visibility_timeout(self) -> float: ...

    class Channel:
        """``kombu.transport.redis.Channel``."""

        Message: Callable[..., Message]
        qos: Any
        client: Client
        pool: redis.ConnectionPool
        closed: bool
        connection: Any
        connection_errors: tuple[type[Exception], ...]
        ack_emulation: bool
        do_restore: bool
        active_queues: list[str]
        auto_delete_queues: set[str]
        global_keyprefix: str
        priority_steps: list[int]
        handlers: dict[str, Callable[[], object]]
        unacked_key: str
        unacked_index_key: str
        brpop_timeout: float
        socket_connect_timeout: float | None
        socket_timeout: float | None
        _pool: redis.ConnectionPool | None
        _async_pool: redis.ConnectionPool | None
        _expires: dict[str, int]
        _queue_cycle: _Cycle
        _in_poll: object

        def __init__(self, *args: object, **kwargs: object) -> None: ...
        def close(self) -> None: ...
        def basic_consume(self, queue: str, no_ack: bool = False, **kwargs: object) -> object: ...
        def conn_or_acquire(
            self, client: Client | None = None
        ) -> AbstractContextManager[Client]: ...
        def _connparams(self, asynchronous: bool = False) -> dict[str, Any]: ...
        def _create_client(self, asynchronous: bool = False) -> redis.Redis: ...
        def _do_restore_message(
            self,
            payload: dict[str, Any],
            exchange: object,
            routing_key: object,
            pipe: Pushes,
            leftmost: bool = False,
        ) -> None: ...
        def _get_pool(self, asynchronous: bool = False) -> redis.ConnectionPool: ...
        def _flush_brpop_reauth(self) -> None: ...
        def _queue_bind(
            self, exchange: str, routing_key: str, pattern: str, queue: str
        ) -> None: ...
        def _refresh_bindings(self, queues: Sequence[str]) -> None: ...
        def _q_for_pri(self, queue: str, priority: int) -> str: ...
        def sweep_bindings(self, limit: int = 100) -> int: ...

    class Transport:
        """``kombu.transport.redis.Transport``."""

        cycle: MultiChannelPoller

        def __init__(self, *args: object, **kwargs: object) -> None: ...

    class MultiChannelPoller:
        """``kombu.transport.redis.MultiChannelPoller``."""

        _channels: set[Any]
        _fd_to_chan: dict[int, tuple[Any, str]]

        def __init__(self) -> None: ...
        def _client_registered(self, channel: object, client: object, cmd: str) -> bool: ...
        def _register(self, channel: object, client: object, type: str) -> None: ...  # noqa: A002
        def _register_BRPOP(self, channel: object) -> None: ...
        def on_poll_start(self) -> None: ...
        def on_readable(self, fileno: int) -> object: ...

else:
    # Ours are put in front of kombu's, or of classes that are built on them.
    Channel = QoS = Transport = object
    from kombu.transport.redis import MultiChannelPoller


_untyped_qos: Any = virtual.QoS
record_in_memory: Final[Callable[[QoS, Message, str], None]] = _untyped_qos.append
"""Keeps a message as unacknowledged without telling Redis."""
acknowledge_in_memory: Final[Callable[[QoS, str], None]] = _untyped_qos.ack
"""Forgets a message without telling Redis."""


def callbacks_of(channel: Channel) -> Mapping[str, Callable[[dict[str, Any]], object]]:
    """What hands messages to their consumers, by the queue that they were in."""
    callbacks: Mapping[str, Callable[[dict[str, Any]], object]] = channel.connection._callbacks
    return callbacks


def reject_unconsumed(channel: Channel, payload: dict[str, Any], queue: str) -> None:
    """Give back a message of a queue that is not consumed any more."""
    channel.connection._deliver(payload, queue)


def replace_callback(
    channel: Channel, queue: str, deliver: Callable[[dict[str, Any]], object]
) -> None:
    """Have another function get the messages of a queue, as they were sent."""
    channel.connection._callbacks[queue] = deliver


def restore_message(
    channel: Channel, message: Message, pushes: Pushes, *, leftmost: bool = False
) -> None:
    """Push a message to the lists that it belongs to, if that is known."""
    info = message.delivery_info
    restore_payload(
        channel, message._raw, info["exchange"], info["routing_key"], pushes, leftmost=leftmost
    )


def restore_payload(
    channel: Channel,
    payload: dict[str, Any],
    exchange: object,
    routing_key: object,
    pushes: Pushes,
    *,
    leftmost: bool = False,
) -> None:
    """The same, of a message as it was in its queue."""
    channel._do_restore_message(payload, exchange, routing_key, pushes, leftmost)


def plain_pipeline(client: Client) -> _Pipeline:
    """Commands with whole keys; a pipeline of kombu's would put the prefix in front of some of them."""
    plain: Any = redis.Redis(connection_pool=client.connection_pool)
    pipeline: _Pipeline = plain.pipeline(transaction=False)
    return pipeline


def unacknowledged_tags(qos: QoS) -> set[str]:
    """The delivery tags of what was delivered and not acknowledged."""
    return set(qos._delivered) - qos._dirty


def asked_connection_of(channel: Any) -> Connection | None:
    """The connection on which a channel waits for the answer to BRPOP."""
    connection: Connection | None = channel._in_poll or None
    return connection


def channels_of(connection: Any) -> list[object]:
    """The open channels of a connection of kombu."""
    return list(connection.transport.channels)


def expiring_queues_of(channel: Channel) -> dict[str, int]:
    """The queues that a channel knows to expire, and after how many milliseconds."""
    return channel._expires


def next_queues(channel: Channel) -> list[str]:
    """The queues that messages are taken from, in the order in which they are to be tried now."""
    return channel._queue_cycle.consume(len(channel.active_queues))


def lists_of(channel: Channel, queues: list[str]) -> list[str]:
    """The keys of the lists of some queues, the most urgent priority first."""
    name_of = channel._q_for_pri
    return [
        channel.global_keyprefix + name_of(queue, priority)
        for priority in channel.priority_steps
        for queue in queues
    ]


def takes_in_turn(channel: Channel) -> bool:
    """Whether a queue is tried last once a message was taken from it."""
    cycle: Any = channel._queue_cycle
    return type(cycle) is round_robin_cycle
