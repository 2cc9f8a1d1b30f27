"""Conversation: the commands of a channel and their answers, without the worker waiting for these.

kombu waits with BRPOP for a message, which Redis forgets in that moment: a second command records it
as unacknowledged, and a worker that is killed between the two has lost it. Here one script takes
messages and records them. Where there are none, Redis announces when that changes, and takes nothing
by itself (CLIENT TRACKING, https://redis.io/commands/client-tracking/).
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias

from celery.utils.log import get_logger
from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from tomskit.celery._internals.kombu_redis import (
    Channel,
    lists_of,
    next_queues,
    takes_in_turn,
)
from tomskit.celery._internals.redis_connections import (
    Command,
    Connection,
    on_invalidation,
    socket_of,
)
from tomskit.celery.fast_redis.deadlines import SECONDS
from tomskit.celery.fast_redis.packing import packed
from tomskit.celery.fast_redis.scripts import FETCH, fetched
from tomskit.celery.fast_redis.sockets import NOT_YET, PacedSocket, Reading
from tomskit.celery.fast_redis.unfetched import Unfetched

if TYPE_CHECKING:
    from socket import socket

    from tomskit.celery.fast_redis.guarded import ReadPayload

__all__ = ("Conversation", "ConversingChannel", "Found", "raise_error")

logger: Final = get_logger(__name__)

_DELIVERY_SECONDS: Final = 0.005
"""How long the delivery of the messages of one fetch may take. Tasks that end meanwhile are acknowledged after
it, and run again if the worker is killed before; a message takes 0.1 ms, or several on a busy machine.
"""
_FEWEST_AT_ONCE: Final = 4
"""Fewer are not worth a fetch."""

Found: TypeAlias = "tuple[str, bytes | ReadPayload]"
"""The queue that a message was in, and the message: as it was in it, or read already."""

_FETCH_SHA: Final = hashlib.sha1(FETCH.encode(), usedforsecurity=False).hexdigest()


class TurnQoS(Protocol):
    """Acknowledges the messages of a channel, as its conversation uses it.

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

    def on_answer(self, answer: object) -> None:
        """The last command of `take_commands` was answered."""

    def finish(self) -> None:
        """Send all commands, and wait for their answers."""


class ConversingChannel(Channel):
    """A channel whose messages a conversation fetches.

    Attributes:
        delivered: How many messages have been delivered by it.
        unfetched: What is known of messages that do not arrive.
        fetch_bytes: How many bytes a fetch takes at most, beyond its first message.
    """

    delivered: int
    unfetched: Unfetched
    fetch_bytes: ClassVar[int] = 8_000_000

    @property
    def unacked_keys(self) -> tuple[str, str]:
        """Where messages are recorded: by tag, and the times by tag."""
        raise NotImplementedError

    def reauthenticate(self) -> None:
        """Send a new token of a credential provider, if there is one; no answer is expected."""
        raise NotImplementedError

    def read_long(self, found: list[tuple[str, bytes]]) -> list[Found]:
        """The same messages, those that are long read already, which takes a while."""
        raise NotImplementedError

    def deliver_recorded(self, found: list[Found]) -> None:
        """Deliver messages, each with the queue that it was in."""
        raise NotImplementedError


class Conversation:
    """Fetches messages and acknowledges them, over the connection that kombu has for BRPOP.

    Attributes:
        is_possible: Whether Redis can say when a list changes.
        taken_at: The times under which Redis has recorded messages that have not arrived.
        reauthenticates: Whether kombu is to send a new token when no answer is expected any more.
        thread: The ident of the thread that takes turns; None before the first one, and where there are none.
    """

    def __init__(self, channel: ConversingChannel) -> None:
        self.is_possible: bool = True
        self.taken_at: list[float] = []
        self.reauthenticates: bool = False
        self.thread: int | None = None
        self._channel = channel
        self._sock: socket | None = None
        self._expected: deque[Callable[[Any], None]] = deque()
        self._reading: Reading | None = None
        self._lists: list[str] = []
        self._order: list[str] = []
        self._asked = 0
        self._asked_at = 0.0
        self._at_once = _FEWEST_AT_ONCE
        self._fetching = False
        self._waiting_since = 0.0
        self._may_have_messages = True
        self._knows_script = False

    # -- commands

    def wake(self) -> None:
        """Look for messages in the next turn."""
        self._may_have_messages = True

    def begin(self) -> None:
        """Ask Redis to announce changes, where the connection is a new one."""
        connection = self._connection
        if socket_of(connection) is self._sock:
            return
        if self._expected:
            raise _made_anew()
        try:
            connection.send_command("CLIENT", "TRACKING", "ON", "NOLOOP", check_health=False)
            connection.read_response()
        except ResponseError as exc:
            self._fall_back("Redis 6 and its command CLIENT TRACKING", exc)
            return
        on_invalidation(connection, self._on_change)
        self._sock = socket_of(connection)
        self._knows_script = False
        self._may_have_messages = True

    def _fall_back(self, needs: str, error: ResponseError) -> None:
        self.is_possible = False
        # Acknowledgements are sent at once now.
        self.thread = None
        logger.warning(
            "Falling back to BRPOP: a worker that is killed may lose a message. "
            "The Redis fast path needs %s: %s",
            needs,
            error,
        )

    def turn(self) -> None:
        """Send what there is to send; called in each turn of the worker."""
        self.thread = threading.get_ident()
        if self.expects_answers:
            self._check_deadline()
        qos: TurnQoS = self._channel.qos
        # Not later: a task that has ended runs again if the worker is killed before.
        commands = qos.take_commands()
        answers: list[Callable[[Any], None]] = []
        if commands:
            answers += [raise_error] * (len(commands) - 1)
            answers.append(qos.on_answer)
        fetch = None if self._fetching else self._fetch_command()
        if fetch is not None:
            self._fetching = True
            commands = [*commands, fetch]
            answers.append(self._on_fetched)
        if commands:
            self._send(commands, answers)

    def _fetch_command(self) -> Command | None:
        channel = self._channel
        if (
            not self._may_have_messages
            and time.monotonic() - self._asked_at < channel.brpop_timeout
        ):
            return None
        count = self._credit()
        if count <= 0 or not channel.active_queues:
            return None
        self._order = next_queues(channel)
        self._lists = lists_of(channel, self._order)
        in_turn = len(self._order) if takes_in_turn(channel) else 1
        # If the answer is lost, this time tells which messages were taken. No other worker may have
        # taken any at the same one.
        now = time.time() + random.random() * 1e-4  # noqa: S311
        self.taken_at = [now]
        self._asked, self._asked_at, self._may_have_messages = count, time.monotonic(), False
        keys = [*channel.unacked_keys, *self._lists]
        script = ("EVALSHA", _FETCH_SHA) if self._knows_script else ("EVAL", FETCH)
        return (*script, len(keys), *keys, repr(now), count, in_turn, channel.fetch_bytes)

    def _credit(self) -> int:
        qos: TurnQoS = self._channel.qos
        if "can_consume" in vars(qos):
            # Where prefetching is disabled, Celery replaces the method by a rule of its own.
            return int(qos.can_consume())
        credit = qos.can_consume_max_estimate()
        most = 1 if self._channel.unfetched.one_by_one() else min(self._at_once, qos.at_once)
        return most if credit is None else min(credit, most)

    def _send(self, commands: Sequence[Command], answers: list[Callable[[Any], None]]) -> None:
        connection = self._connection
        if not self._expected:
            self._waiting_since = time.monotonic()
        self._expected.extend(answers)
        # Without a health check, whose answer would be waited for: all answers have a deadline.
        connection.send_packed_command(packed(connection, commands), check_health=False)
        if socket_of(connection) is not self._sock:
            raise _made_anew()

    def _check_deadline(self) -> None:
        # A broker that disappears without closing the connection never answers, and nothing else
        # would notice.
        waited, limit = time.monotonic() - self._waiting_since, self._channel.socket_timeout
        if limit is None or waited < limit:
            return
        used: object = None if self._reading is None else self._reading.source
        if self._is_reading and isinstance(used, PacedSocket):
            if not used.stands_still():
                return
        elif self._connection.can_read(0):
            return
        self._connection.disconnect()
        raise ConnectionResetError(f"Redis has not answered for {waited:.0f} s")

    # -- answers

    def read(self, until: float | None = None) -> int:
        """Read what has arrived, and deliver messages. What is there of a long answer is no reason to wait.

        Args:
            until: Up to when the rest of an answer is waited for all the same, by ``time.monotonic()``.

        Returns:
            How many.
        """
        connection, before = self._connection, self._channel.delivered
        try:
            while True:
                reading = self._reading_of(connection)
                answer = reading.read(is_push=not self._expected, until=until)
                if answer is NOT_YET:
                    break
                if reading.is_push:
                    raise_error(answer)
                else:
                    self._waiting_since = time.monotonic()
                    self._expected.popleft()(answer)
                if not connection.can_read(0):
                    break
        except self._channel.connection_errors:
            connection.disconnect()
            raise
        if not self.is_possible and not self._expected:
            # What was to be sent with the next command.
            self._channel.qos.finish()
        if self.reauthenticates and not self.expects_answers:
            self.reauthenticates = False
            self._channel.reauthenticate()
        return self._channel.delivered - before

    def _reading_of(self, connection: Connection) -> Reading:
        known = self._reading
        if known is not None and known.can_go_on(connection):
            return known
        if known is not None and self._is_reading and known.source is socket_of(connection):
            raise ConnectionResetError("Another thread has the first half of an answer")
        made = self._reading = Reading(connection)
        return made

    @property
    def expects_answers(self) -> bool:
        """Whether the next thing that Redis sends answers a command of the conversation, or ends what it has begun."""
        return bool(self._expected) or self._is_reading

    @property
    def _is_reading(self) -> bool:
        reading = self._reading
        return reading is not None and reading.is_under_way and not reading.dead

    def finish(self) -> None:
        """Wait for the answers that are outstanding, where they can still come, and soon."""
        until = time.monotonic() + (self._channel.socket_timeout or SECONDS)
        while self._expected:
            connection = self._connection
            if socket_of(connection) is not self._sock:
                self.forget_expected()
                return
            self.read(until)
            if self._is_reading and time.monotonic() >= until:
                # It comes, and may take minutes. Another connection can tell what is to be told.
                connection.disconnect()
                raise ConnectionResetError("The rest of an answer comes too slowly")

    def forget_expected(self) -> None:
        """Expect no answers any more: the connection is lost."""
        self._expected.clear()
        self._fetching = False
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.give_up()

    def _on_change(self, _: object) -> None:
        self._may_have_messages = True

    def _on_fetched(self, answer: Any) -> None:
        if isinstance(answer, NoScriptError):
            # The server was restarted, or SCRIPT FLUSH was called.
            self._knows_script, self._may_have_messages = False, True
            self._fetching = False
            return
        if isinstance(answer, NoPermissionError):
            self._fall_back("scripts (+@scripting)", answer)
            return
        raise_error(answer)
        self._knows_script = True
        order = self._order
        found = [(order[place % len(order)], raw) for place, raw in fetched(answer)]
        if len(found) < self._asked:
            # Redis announces changes of keys that a command has read; the script's do not count.
            # Where the connection is lost by now, what was found is given back as if it had not arrived.
            self._send([("EXISTS", *self._lists)], [self._on_looked])
        else:
            self._fetching, self._may_have_messages = False, True
        if not found:
            self.taken_at = []
            return
        messages = self._channel.read_long(found)
        self.taken_at = []
        began = time.monotonic()
        self._channel.deliver_recorded(messages)
        self._adapt(len(messages), time.monotonic() - began)

    def _adapt(self, delivered: int, seconds: float) -> None:
        """Choose how many messages the next fetch takes, from how long it took to deliver some."""
        in_time = int(delivered * _DELIVERY_SECONDS / max(seconds, 1e-6))
        if in_time < self._at_once:
            # Not at once: the process may just have been interrupted.
            self._at_once = max(in_time, self._at_once // 2, _FEWEST_AT_ONCE)
        elif delivered >= self._at_once:
            self._at_once = min(in_time, 2 * self._at_once, self._channel.qos.at_once)

    def _on_looked(self, answer: object) -> None:
        self._fetching = False
        raise_error(answer)
        if answer:
            self._may_have_messages = True

    @property
    def _connection(self) -> Connection:
        return self._channel.client.connection


def _made_anew() -> ConnectionResetError:
    # redis-py does so without a word. What the worker does then makes good what Redis has not read, and
    # what it has sent.
    return ConnectionResetError("The connection to Redis was lost before it has answered")


def raise_error(answer: object) -> None:
    """Raise an answer that is an error."""
    if isinstance(answer, ResponseError):
        raise answer
