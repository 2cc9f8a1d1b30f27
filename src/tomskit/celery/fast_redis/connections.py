"""AwayConnection: a connection to the broker that is lost when Redis cannot do now what it is asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from typing_extensions import override

from tomskit.celery._internals.redis_connections import WaitingConnection, is_array
from tomskit.celery.fast_redis.silence import silence
from tomskit.celery.fast_redis.sockets import PacedSocket
from tomskit.redis.away import ServerAwayError, is_away

if TYPE_CHECKING:
    from socket import socket

__all__ = ("AwayConnection",)


class AwayConnection(WaitingConnection):
    """Put in front of a connection of redis-py, takes answers such as READONLY for a lost connection.

    kombu and Celery make a lost connection anew, and lose nothing; from any other answer that is an
    error they end the worker.
    """

    _made_at = 0.0

    @override
    def _connect(self) -> Any:
        made_at = self._made_at = time.monotonic()
        connect_timeout, timeout = self.socket_connect_timeout, self.socket_timeout
        limit = silence.limit(made_at)
        if limit is not None:
            self.socket_connect_timeout = min(connect_timeout or limit, limit)
            self.socket_timeout = min(timeout or limit, limit)
        try:
            return self._paced(super()._connect())
        except TimeoutError:
            silence.found(time.monotonic() - made_at)
            raise
        finally:
            self.socket_connect_timeout, self.socket_timeout = connect_timeout, timeout

    def _paced(self, connected: socket) -> PacedSocket:
        return PacedSocket(connected)

    @override
    def send_packed_command(self, command: object, check_health: bool = True) -> None:
        if self._sock is not None and silence.ends(self._made_at):
            self.disconnect()
        began = time.monotonic()
        try:
            super().send_packed_command(command, check_health)
        except RedisTimeoutError:
            if silence.limit(self._made_at) is None:
                silence.found(time.monotonic() - began)
            raise

    @override
    def read_response(self, *args: object, **kwargs: object) -> object:
        limit = silence.limit(self._made_at)
        used: object = self._sock
        if not isinstance(used, PacedSocket):
            # Not connected; redis-py says so.
            return super().read_response(*args, **kwargs)
        if limit is not None:
            used.settimeout(limit)
        began = time.monotonic()
        used.begin_answer()
        try:
            answer = super().read_response(*args, **kwargs)
        except RedisTimeoutError:
            silence.found(time.monotonic() - began)
            raise
        except (ResponseError, BusyLoadingError) as exc:
            if not is_away(exc):
                raise
            error: Exception = exc
        else:
            # EXEC answers with those of the commands of a transaction.
            found = _error_in(answer) if is_array(answer) else None
            if found is None:
                return answer
            error = found
        finally:
            used.end_answer()
        # Answers of other commands may be left.
        self.disconnect()
        raise ServerAwayError(str(error)) from error


def _error_in(answers: list[object]) -> ResponseError | None:
    return next((one for one in answers if isinstance(one, ResponseError) and is_away(one)), None)
