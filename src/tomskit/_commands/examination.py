"""Runs checks of an app, each within a time limit, and turns their errors into findings."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ValidationError
from typing_extensions import override

from tomskit.errors import ConfigurationError, MissingDriverError

if TYPE_CHECKING:
    from tomskit.celery.app import AsyncCelery

__all__ = ("Check", "Finding", "Status", "described", "examine", "unless_configured")

Status = Literal["ok", "skipped", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes:
        name: What was looked at.
        status: How that is.
        detail: What was found.
        advice: What to do, if anything.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """The fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes:
        look: Yields what it finds.
        settings: The settings that it depends on.
        where: The address of the server that it asks, without a password, if it asks one.
    """

    look: Callable[[AsyncCelery], Iterable[Finding]]
    settings: str
    where: Callable[[AsyncCelery], str] | None = None


_NO_ANSWER: Final = (
    "The server does not answer: a firewall, a wrong host, TLS on one side only, or an overload. "
    "Look at {set}."
)

_START_IT: Final = "Start the server, or set the host and port on which it listens: {set}."

_START_IT_THERE: Final = "Start Redis, or set the path at which it listens, its unixsocket: {set}."

_ADVICE: Final = (
    # Of a Unix socket: others have no path there.
    (
        f"Error {errno.EACCES} connecting to /",
        "The Unix socket is not for this user: set unixsocketperm 770 in Redis, and add the user to its group.",
    ),
    (f"Error {errno.ENOENT} connecting to /", _START_IT_THERE),
    (f"Error {errno.ECONNREFUSED} connecting to /", _START_IT_THERE),
    ("Connection refused", _START_IT),
    ("ConnectionRefusedError", _START_IT),
    ("Name or service not known", "There is no such host. Look at {set}."),
    ("nodename nor servname", "There is no such host. Look at {set}."),
    ("timed out", _NO_ANSWER),
    ("Timeout", _NO_ANSWER),
    ("WRONGPASS", "User name or password are wrong: {set}."),
    ("invalid username-password", "User name or password are wrong: {set}."),
    ("Authentication required", "The server wants a password: {set}."),
    ("NOAUTH", "The server wants a password: {set}."),
    ("Access denied", "User name, password or rights of the user are wrong: {set}."),
    ("password authentication failed", "User name or password are wrong: {set}."),
    ("Unknown database", "Create the database, or set the name of the right one: {set}."),
    ("does not exist", "Create it, or set the right name: {set}."),
    ("DB index is out of range", "The server has fewer databases: {set}."),
    ("NOPERM", "The user's ACL lacks this permission; grant it."),
    ("READONLY", "This is a replica. Set the address of the master, or use Sentinel: {set}."),
    ("OOM", "Redis has reached its maxmemory: give it more, or remove data."),
    ("MISCONF", "Redis cannot save its data: look at its log and at the disk."),
    ("NOREPLICAS", "Redis has fewer replicas than min-replicas-to-write."),
    (
        "No such file",
        "A file that a setting names is not there, such as one of certificates: {set}.",
    ),
    ("certificate", "Look at the certificates: {set}."),
    ("Protocol Error", "What answers there is not a Redis. Look at {set}."),
    (
        "Connection closed by server",
        "Either what answers there is not a Redis, or it wants TLS. Look at {set}.",
    ),
    ("not installed", "Install it."),
)


def examine(app: AsyncCelery, checks: Mapping[str, Check], timeout: float) -> list[Finding]:
    """Run all checks at once.

    Args:
        app: The app to examine.
        checks: The checks, by the name of what they look at.
        timeout: Seconds for each; one that takes longer has failed. As they run at once, all
            together take no longer.
    """
    runs = [_Run(name, check, app) for name, check in checks.items()]
    deadline = time.monotonic() + timeout
    for run in runs:
        run.start()
    return [finding for run in runs for finding in run.findings(timeout, deadline)]


class _Run(threading.Thread):
    """One check. A daemon: a server that never answers does not keep the command from ending."""

    def __init__(self, name: str, check: Check, app: AsyncCelery) -> None:
        super().__init__(name=name, daemon=True)
        self._check = check
        self._app = app
        self._found: list[Finding] = []

    @override
    def run(self) -> None:
        try:
            self._found.extend(self._check.look(self._app))
        except Exception as exc:  # noqa: BLE001 (whatever is wrong, the user wants to know)
            advice = _advice_for(exc, self._check.settings)
            self._found.append(
                Finding(self.name, "failed", _at(self._where(), described(exc)), advice)
            )

    def findings(self, timeout: float, deadline: float) -> Iterator[Finding]:
        self.join(max(0.0, deadline - time.monotonic()))
        yield from tuple(self._found)
        if self.is_alive():
            detail = _at(self._where(), f"no answer within {timeout:g} s")
            yield Finding(self.name, "failed", detail, _NO_ANSWER.format(set=self._check.settings))

    def _where(self) -> str:
        if self._check.where is not None:
            # What is wrong with the settings is the finding.
            with suppress(Exception):
                return self._check.where(self._app)
        return ""


def _at(where: str, detail: str) -> str:
    return f"{where}: {detail}" if where else detail


def described(exc: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(exc).split()) or repr(exc)
    # SQLAlchemy appends a link to its documentation.
    return f"{type(exc).__name__}: {text.partition(' (Background on this error')[0]}"


def _advice_for(exc: BaseException, settings: str) -> str:
    """What to do about an error of a server that these settings name."""
    if isinstance(exc, MissingDriverError):
        return f"Install it, or set the scheme of another driver: {settings}."
    if isinstance(exc, (ValidationError, ConfigurationError)):
        return "Correct this setting."
    seen = described(exc)
    cause = exc.__cause__
    while cause is not None:
        seen += described(cause)
        cause = cause.__cause__
    for part, advice in _ADVICE:
        if part.lower() in seen.lower():
            return advice.format(set=settings)
    return f"Look at {settings}."


def unless_configured(
    name: str, where: str, exc: Exception, settings: str, *, is_needed: bool
) -> Finding:
    """A failure; or, where nothing was set, a note: many apps use no such server.

    Args:
        name: What was looked at.
        where: Its address, without a password.
        exc: Its error.
        settings: The settings that name the server.
        is_needed: Whether somebody has said where the server is, or something needs it.
    """
    if not is_needed:
        return Finding(name, "skipped", f"not configured; tasks that use it need {settings}")
    return Finding(name, "failed", _at(where, described(exc)), _advice_for(exc, settings))
