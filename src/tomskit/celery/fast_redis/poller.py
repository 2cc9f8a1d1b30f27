"""When channels write to Redis and read its answers."""

from __future__ import annotations

import time
from queue import Empty

from typing_extensions import override

from tomskit.celery._internals.kombu_redis import MultiChannelPoller, asked_connection_of
from tomskit.celery.fast_redis.channel import FastChannel
from tomskit.celery.fast_redis.guarded import GuardedChannel

__all__ = ("FastPoller", "WatchfulPoller")


class WatchfulPoller(MultiChannelPoller):
    """kombu's poller, which gives up a connection that does not answer to BRPOP in time.

    kombu looks at that with its health checks, and not before their interval is over twice. It also tells
    Redis again what that could not be told before.
    """

    @override
    def on_poll_start(self) -> None:
        for channel in self._channels:
            if isinstance(channel, GuardedChannel):
                _check_deadline(channel)
                if channel.unacknowledged or channel.rejected:
                    # If that cannot be done either, the connection is lost, and made anew.
                    channel.tell()
                channel.give_back_due()
        super().on_poll_start()

    @override
    def _register_BRPOP(self, channel: object) -> None:
        if not isinstance(channel, GuardedChannel):
            super()._register_BRPOP(channel)
            return
        asked_before = asked_connection_of(channel)
        super()._register_BRPOP(channel)
        if asked_before is None:
            channel.asked_at = time.monotonic()


def _check_deadline(channel: GuardedChannel) -> None:
    connection, limit = asked_connection_of(channel), channel.socket_timeout
    waited = time.monotonic() - channel.asked_at
    if connection is None or limit is None or waited < channel.brpop_timeout + limit:
        return
    if connection.can_read(0):
        return
    connection.disconnect()
    raise ConnectionResetError(f"Redis has not answered for {waited:.0f} s")


class FastPoller(WatchfulPoller):
    """kombu's poller, for channels that need not wait with BRPOP."""

    @override
    def on_poll_start(self) -> None:
        super().on_poll_start()
        for channel in self._channels:
            # Also without a queue: tasks are acknowledged after the last queue was cancelled.
            if isinstance(channel, FastChannel) and channel.converses and self._is_open(channel):
                channel.conversation.turn()

    def _is_open(self, channel: FastChannel) -> bool:
        return self._client_registered(channel, channel.client, "BRPOP")

    @override
    def _register_BRPOP(self, channel: object) -> None:
        if not isinstance(channel, FastChannel) or not channel.converses:
            super()._register_BRPOP(channel)
            return
        if not self._is_open(channel):
            self._register(channel, channel.client, "BRPOP")
        channel.conversation.begin()
        if not channel.conversation.is_possible:
            super()._register_BRPOP(channel)

    @override
    def on_readable(self, fileno: int) -> object:
        channel, kind = self._fd_to_chan.get(fileno, (None, ""))
        if kind == "BRPOP" and isinstance(channel, FastChannel) and channel.converses:
            if not channel.conversation.read():
                raise Empty
            return True
        return super().on_readable(fileno)
