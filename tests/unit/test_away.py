"""When a Redis server is away, by the errors of redis-py."""

import socket
from typing import Any, cast

import pytest
import redis
from amqp.exceptions import AccessRefused, ConnectionForced
from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError, DataError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tomskit.celery._client.retrying import is_away as server_is_away
from tomskit.redis.away import ServerAwayError, as_python_shows, is_away, is_distrusted, is_refused

AWAY = (
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "READONLY You can't write against a read only replica. script: 1, on @user_script:2.",
    "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "OOM the memory is full",
    "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "ERR max number of clients reached",
)
REFUSED = (
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOAUTH Authentication required.",
    "ERR invalid password",
    "NOPERM User x has no permissions to run the 'eval' command",
    "ERR DB index is out of range",
    "The user executing the script can't run this command or subcommand script: 1, on @user_script:17.",
    "ERR Error running script (call to f_1): @user_script:1: The user executing the script can't access",
)
MISTAKES = (
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "BUSYGROUP Consumer Group name already exists",
    "ERR unknown command 'XYZ', with args beginning with: ",
    "NOSCRIPT No matching script. Please use EVAL.",
    "EXECABORT Transaction discarded because of previous errors.",
)


def answered(text: str) -> Exception:
    """The error that redis-py makes of an answer."""
    parser = cast("Any", redis).Connection()._parser
    error = parser.parse_error(text)
    assert isinstance(error, Exception)
    return error


@pytest.mark.parametrize("text", AWAY)
def test_a_server_that_says_not_now_is_away(text: str) -> None:
    assert is_away(answered(text))
    assert not is_refused(answered(text))


@pytest.mark.parametrize("text", REFUSED)
def test_a_server_that_refuses_is_not_away(text: str) -> None:
    assert not is_away(answered(text))
    assert is_refused(answered(text))


@pytest.mark.parametrize("text", MISTAKES)
def test_other_answers_are_neither(text: str) -> None:
    assert not is_away(answered(text))
    assert not is_refused(answered(text))


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("Connection closed by server."),
        RedisTimeoutError("Timeout reading from socket"),
        ConnectionRefusedError(),
        socket.gaierror(-2, "Name or service not known"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_server_that_cannot_be_reached_is_away(error: Exception) -> None:
    assert is_away(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed (_ssl.c:1006)",
            True,
        ),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", True),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)", True),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure", True),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", True),
        ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol", False),
        ("Connection reset by peer", False),
    ],
)
def test_a_certificate_that_is_not_accepted_is_distrust(text: str, *, expected: bool) -> None:
    assert is_distrusted(RedisConnectionError(f"Error 1 connecting to h:6379. {text}.")) is expected


@pytest.mark.parametrize("error", [DataError("x"), ValueError("x")], ids=repr)
def test_mistakes_of_the_program_are_no_outage(error: Exception) -> None:
    assert not is_away(error)


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (RedisConnectionError("gone"), True),
        (answered("READONLY You can't"), True),
        (ConnectionForced("shutdown"), True),
        (ResponseError("WRONGTYPE"), False),
        (AuthenticationError("WRONGPASS"), False),
        (AccessRefused("ACCESS_REFUSED"), False),
    ],
    ids=repr,
)
def test_the_cause_of_an_error_of_kombu_decides(cause: Exception, *, expected: bool) -> None:
    error = OperationalError("broker")
    error.__cause__ = cause

    assert server_is_away(error) is expected


def test_an_error_is_shown_with_what_the_server_has_said() -> None:
    """redis-py shows an error by its class alone."""
    assert as_python_shows(ResponseError("MISCONF no disk")) == "ResponseError('MISCONF no disk')"
    assert repr(ServerAwayError("MISCONF no disk")) == "ServerAwayError('MISCONF no disk')"
