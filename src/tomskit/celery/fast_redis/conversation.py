"""Conversation: what a channel and Redis say to each other, without the worker waiting for answers.

kombu waits with BRPOP for a message, which Redis forgets in that moment: it is recorded as
unacknowledged by a second command, and a worker that is killed between the two has lost it. Here one
script takes messages and records them. And where there are none Redis is told to say when that
changes (CLIENT TRACKING, https://redis.io/commands/client-tracking/), which takes nothing.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, cast

from celery.utils.log import get_logger
from kombu.utils.scheduling import round_robin_cycle
from redis.exceptions import NoScriptError, ResponseError

from tomskit.celery._internals import kombu as kombu_types
from tomskit.celery.fast_redis.scripts import FETCH

if TYPE_CHECKING:
    from socket import socket

__all__ = ("Command", "Conversation", "ConversingChannel", "raise_error")

Command = tuple[object, ...]

logger: Final = get_logger(__name__)

_ROUND_ROBIN: Final = cast("object", round_robin_cycle)

_FETCH_SHA: Final = hashlib.sha1(FETCH.encode(), usedforsecurity=False).hexdigest()


class _Parser(Protocol):
    def set_invalidation_push_handler(self, handler: Callable[[object], object]) -> None: ...


class _Connection(Protocol):
    """redis-py's."""

    _sock: socket | None
    _parser: _Parser
    protocol: object

    def send_command(self, *command: object) -> None: ...
    def pack_commands(self, commands: Sequence[Command]) -> object: ...
    def send_packed_command(self, command: object) -> None: ...
    def read_response(self, *, push_request: bool = False) -> object: ...
    def can_read(self, timeout: float = 0) -> bool: ...
    def disconnect(self) -> None: ...


class TurnQoS(Protocol):
    """What acknowledges the messages of a channel, as its conversation uses it.

    Attributes:
        at_once: How many messages are fetched together, at most.
    """

    @property
    def at_once(self) -> int: ...
    def can_consume(self) -> bool: ...
    def can_consume_max_estimate(self) -> int | None: ...

    def take_commands(self) -> list[Command]:
        """The commands that Redis has not been given yet."""
        ...

    def on_told(self, answer: object) -> None:
        """The last command of `take_commands` was answered."""


class ConversingChannel(kombu_types.Channel):
    """A channel whose messages a conversation fetches.

    Attributes:
        delivered: How many messages have come by it.
    """

    delivered: int

    @property
    def unacked_keys(self) -> tuple[str, str]:
        """Where messages are recorded: by tag, and the times by tag."""
        raise NotImplementedError

    def deliver_recorded(self, found: list[tuple[str, object]]) -> None:
        """Deliver messages, each with the queue that it was in."""
        raise NotImplementedError


class Conversation:
    """Fetches messages and acknowledges them, over the connection that kombu has for BRPOP.

    Attributes:
        is_possible: Whether Redis can say when a list changes.
        taken_at: The recorded times of what was asked for and has not come.
    """

    def __init__(self, channel: ConversingChannel) -> None:
        self.is_possible: bool = True
        self.taken_at: list[float] = []
        self._channel = channel
        self._sock: socket | None = None
        self._expected: deque[Callable[[object], None]] = deque()
        self._lists: list[str] = []
        self._order: list[str] = []
        self._asked = 0
        self._asked_at = 0.0
        self._said_at = 0.0
        self._something_new = True
        self._knows_script = False
        self._thread: int | None = None

    # -- what is said

    def wake(self) -> None:
        """Look for messages in the next turn."""
        self._something_new = True

    def begin(self) -> None:
        """Tell Redis what is wanted of it, where the connection is a new one."""
        connection = self._connection
        if connection._sock is self._sock:  # noqa: SLF001
            return
        self._expected.clear()
        try:
            connection.send_command("CLIENT", "TRACKING", "ON", "NOLOOP")
            connection.read_response()
        except ResponseError as exc:
            self.is_possible = False
            logger.warning(
                "Messages are fetched as plain Celery does it: a worker that is killed may lose one. "
                "The Redis fast path needs Redis 6 and its command CLIENT TRACKING: %s",
                exc,
            )
            return
        connection._parser.set_invalidation_push_handler(self._on_change)  # noqa: SLF001
        self._sock = connection._sock  # noqa: SLF001
        self._knows_script = False
        self._something_new = True

    def is_in_turn(self) -> bool:
        """Whether this is the thread that takes turns."""
        return self._thread == threading.get_ident()

    def turn(self) -> None:
        """In each turn of the worker: say what there is to say."""
        self._thread = threading.get_ident()
        if self._expected:
            self._check_health()
            return
        qos: TurnQoS = self._channel.qos
        commands = qos.take_commands()
        if commands:
            self._expected.extend([raise_error] * (len(commands) - 1))
            self._expected.append(qos.on_told)
        fetch = self._fetch_command()
        if fetch is not None:
            commands.append(fetch)
            self._expected.append(self._on_fetched)
        if commands:
            self._send(commands)

    def _fetch_command(self) -> Command | None:
        channel = self._channel
        if not self._something_new and time.monotonic() - self._asked_at < channel.brpop_timeout:
            return None
        count = self._credit()
        queues = channel.active_queues
        if count <= 0 or not queues:
            return None
        cycle = channel._queue_cycle  # noqa: SLF001
        self._order = cycle.consume(len(queues))
        self._lists = [
            channel.global_keyprefix + channel._q_for_pri(queue, priority)  # noqa: SLF001
            for priority in channel.priority_steps
            for queue in self._order
        ]
        in_turn = len(self._order) if cast("object", type(cycle)) is _ROUND_ROBIN else 1
        # Which messages they were is found by it, should the answer be lost; so it is to be this
        # worker's alone.
        now = time.time() + random.random() * 1e-4  # noqa: S311
        self.taken_at = [now]
        self._asked, self._asked_at, self._something_new = count, time.monotonic(), False
        keys = [*channel.unacked_keys, *self._lists]
        script = ("EVALSHA", _FETCH_SHA) if self._knows_script else ("EVAL", FETCH)
        return (*script, len(keys), *keys, repr(now), count, in_turn)

    def _credit(self) -> int:
        qos: TurnQoS = self._channel.qos
        if "can_consume" in vars(qos):
            # Where prefetching is disabled, Celery has put a rule of its own in this place.
            return int(qos.can_consume())
        credit = qos.can_consume_max_estimate()
        return qos.at_once if credit is None else min(credit, qos.at_once)

    def _send(self, commands: Sequence[Command]) -> None:
        connection, self._said_at = self._connection, time.monotonic()
        connection.send_packed_command(connection.pack_commands(commands))

    def _check_health(self) -> None:
        # A broker that went away without a word never answers, and nothing else would notice.
        channel = self._channel
        overdue = time.monotonic() - self._said_at - channel.brpop_timeout
        if channel.health_check_interval and overdue > channel.health_check_interval:
            if self._connection.can_read(0):
                return
            logger.warning("Redis has not answered for %.0f seconds: connecting again", overdue)
            self._connection.disconnect()
            raise ConnectionResetError("Redis did not answer")

    # -- what is heard

    def read(self) -> int:
        """Take what has come; messages are delivered.

        Returns:
            How many.
        """
        connection, before = self._connection, self._channel.delivered
        try:
            while True:
                if self._expected:
                    try:
                        answer = connection.read_response()
                    except ResponseError as exc:
                        answer = exc
                    self._expected.popleft()(answer)
                else:
                    connection.read_response(push_request=True)
                if not connection.can_read(0):
                    break
        except self._channel.connection_errors:
            connection.disconnect()
            raise
        return self._channel.delivered - before

    def finish(self) -> None:
        """Wait for the answers that are outstanding, where they can still come."""
        while self._expected:
            if self._connection._sock is not self._sock:  # noqa: SLF001
                self._expected.clear()
                return
            self.read()

    def _on_change(self, _: object) -> None:
        self._something_new = True

    def _on_fetched(self, answer: object) -> None:
        if isinstance(answer, NoScriptError):
            # The server was started anew, or somebody has emptied its memory of scripts.
            self._knows_script, self._something_new = False, True
            return
        raise_error(answer)
        self._knows_script = True
        self.taken_at = []
        found = cast("list[object]", answer)
        if len(found) < 2 * self._asked:
            # That they are empty is read by a command that Redis tells of changes after.
            self._expected.append(self._on_looked)
            self._send([("EXISTS", *self._lists)])
        else:
            self._something_new = True
        if found:
            places = cast("list[int]", found[::2])
            queues = [self._order[place % len(self._order)] for place in places]
            self._channel.deliver_recorded(list(zip(queues, found[1::2], strict=True)))

    def _on_looked(self, answer: object) -> None:
        raise_error(answer)
        if answer:
            self._something_new = True

    @property
    def _connection(self) -> _Connection:
        return cast("_Connection", self._channel.client.connection)


def raise_error(answer: object) -> None:
    """Raise an answer that is an error."""
    if isinstance(answer, ResponseError):
        raise answer
