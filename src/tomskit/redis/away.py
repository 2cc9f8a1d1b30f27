"""When a Redis server is away: the one definition, for brokers, results and clients.

A server is away when it cannot be reached, does not answer in time, or answers that it cannot do now
what it is asked. What is away is waited for. A wrong password, a missing permission and a database
that does not exist are no outage: waiting does not help.
"""

from __future__ import annotations

import re
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from typing_extensions import override

__all__ = (
    "AWAY_CODES",
    "ServerAwayError",
    "as_python_shows",
    "is_away",
    "is_distrusted",
    "is_refused",
)

AWAY_CODES: Final = (
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
)
"""The codes of answers that say: not now."""

_AWAY_CLASSES: Final = (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_REFUSED_CLASSES: Final = (AuthenticationError, AuthorizationError, NoPermissionError)

# Redis 6 puts the error of a command that a script calls after "ERR Error running script".
_AWAY_TEXT: Final = re.compile(rf"(?:^|: -?)(?:{'|'.join(AWAY_CODES)}) ")
# Also inside of other texts, such as that of a transaction that was aborted.
_OTHER_AWAY_TEXTS: Final = (
    "command not allowed when used memory",
    "max number of clients reached",
)
_REFUSED_TEXTS: Final = (
    "DB index is out of range",
    "invalid DB index",
    "Invalid Database",
    "NOAUTH",
    "SELECT is not allowed in cluster mode",
    # From a command that a script calls: the answer names no permission error.
    "The user executing the script can't",
)
# As Python names what OpenSSL reports: of the server's certificate, or in an alert of the server's. The
# connection's end without a word ("EOF occurred in violation of protocol") is none of them.
_DISTRUST: Final = re.compile(r"\[SSL: \w*(?:CERTIFICATE|_ALERT_|WRONG_VERSION_NUMBER)\w*\]")


class ServerAwayError(RedisConnectionError):
    """Redis cannot be reached, or has answered that it cannot do now what it was asked.

    redis-py's own error is the cause. That for such an answer is a ResponseError, which kombu and
    Celery take for a mistake of the program; this one they take for a connection that was lost.
    """

    @override
    def __repr__(self) -> str:
        return as_python_shows(self)


def as_python_shows(error: BaseException) -> str:
    """An error as Python shows it. What redis-py makes of its own does not say what is wrong."""
    return BaseException.__repr__(error)


def is_away(error: BaseException) -> bool:
    """Whether an error means that the server is away, so that trying again later may help."""
    if is_refused(error) or isinstance(error, InvalidResponse):
        return False
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, *_AWAY_CLASSES)):
        return True
    if isinstance(error, ResponseError):
        text = str(error)
        return _AWAY_TEXT.search(text) is not None or any(one in text for one in _OTHER_AWAY_TEXTS)
    return isinstance(error, OSError) and not isinstance(error, RedisError)


def is_refused(error: BaseException) -> bool:
    """Whether the server has refused these credentials, what they may do, or the database."""
    if isinstance(error, _REFUSED_CLASSES):
        return True
    return isinstance(error, RedisError) and any(one in str(error) for one in _REFUSED_TEXTS)


def is_distrusted(error: BaseException) -> bool:
    """Whether TLS has failed because client or server does not accept the other one."""
    return _DISTRUST.search(str(error)) is not None
