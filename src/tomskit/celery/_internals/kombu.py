# ruff: noqa: N802 (they are kombu's)
"""kombu's Redis transport as far as it is used here; kombu itself has no types for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import redis
    from kombu.message import Message

    class Pipeline(Protocol):
        def execute_command(self, *command: object) -> object: ...
        def execute(self) -> list[object]: ...

    class Plain(Protocol):
        def pipeline(self, *, transaction: bool) -> Pipeline: ...

    class Ranges(Protocol):
        def zrange(self, name: str, start: float, end: float, *, byscore: bool) -> list[bytes]: ...

    class Raw(Protocol):
        _raw: dict[str, Any]

    class Cycle(Protocol):
        def consume(self, n: int) -> list[str]: ...
        def rotate(self, last_used: str) -> None: ...

    class Client(Protocol):
        connection: Any

    class QoS:
        channel: Any
        _delivered: dict[str, Message]
        _dirty: set[str]

        def __init__(self, *args: object, **kwargs: object) -> None: ...
        def can_consume(self) -> bool: ...
        def can_consume_max_estimate(self) -> int | None: ...
        def append(self, message: Message, delivery_tag: str) -> None: ...
        def ack(self, delivery_tag: str) -> None: ...
        def reject(self, delivery_tag: str, requeue: bool = False) -> None: ...
        def restore_by_tag(self, tag: str) -> None: ...
        def restore_unacked(self, client: object = None) -> None: ...

    class Channel:
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
        global_keyprefix: str
        priority_steps: list[int]
        unacked_key: str
        unacked_index_key: str
        brpop_timeout: float
        health_check_interval: float | None
        _queue_cycle: Cycle
        _in_poll: object

        def __init__(self, *args: object, **kwargs: object) -> None: ...
        def close(self) -> None: ...
        def basic_consume(self, queue: str, no_ack: bool = False, **kwargs: object) -> object: ...
        def conn_or_acquire(self, client: object = None) -> AbstractContextManager[redis.Redis]: ...
        def _connparams(self, asynchronous: bool = False) -> dict[str, Any]: ...
        def _create_client(self, asynchronous: bool = False) -> redis.Redis: ...
        def _do_restore_message(
            self,
            payload: dict[str, Any],
            exchange: object,
            routing_key: object,
            pipe: object,
            leftmost: bool = False,
        ) -> None: ...
        def _get_pool(self, asynchronous: bool = False) -> object: ...
        def _q_for_pri(self, queue: str, priority: int) -> str: ...

    class Transport:
        cycle: MultiChannelPoller

        def __init__(self, *args: object, **kwargs: object) -> None: ...

    class MultiChannelPoller:
        _channels: set[Any]
        _fd_to_chan: dict[int, tuple[Any, str]]

        def _client_registered(self, channel: object, client: object, cmd: str) -> bool: ...
        def _register(self, channel: object, client: object, type: str) -> None: ...  # noqa: A002
        def _register_BRPOP(self, channel: object) -> None: ...
        def on_poll_start(self) -> None: ...
        def on_readable(self, fileno: int) -> object: ...

else:
    Channel = MultiChannelPoller = QoS = Transport = object
