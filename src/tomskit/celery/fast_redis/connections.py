"""AwayConnection: a connection to the broker that is lost when Redis cannot do now what it is asked."""

from __future__ import annotations

from redis.exceptions import BusyLoadingError, ResponseError
from typing_extensions import override

from tomskit.celery._internals.redis_connections import WaitingConnection, is_array
from tomskit.redis.away import ServerAwayError, is_away

__all__ = ("AwayConnection",)


class AwayConnection(WaitingConnection):
    """Put in front of a connection of redis-py, takes answers such as READONLY for a lost connection.

    kombu and Celery make a lost connection anew, and lose nothing; from any other answer that is an
    error they end the worker.
    """

    @override
    def read_response(self, *args: object, **kwargs: object) -> object:
        try:
            answer = super().read_response(*args, **kwargs)
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
        # Answers of other commands may be left.
        self.disconnect()
        raise ServerAwayError(str(error)) from error


def _error_in(answers: list[object]) -> ResponseError | None:
    return next((one for one in answers if isinstance(one, ResponseError) and is_away(one)), None)
