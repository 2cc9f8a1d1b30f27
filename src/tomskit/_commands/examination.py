"""Runs checks of an app, each within a time limit, and turns their errors into findings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ValidationError
from typing_extensions import override

from tomskit.errors import ConfigurationError, MissingDriverError

if TYPE_CHECKING:
    from tomskit.celery.app import AsyncCelery

__all__ = ("Check", "Finding", "Status", "advice_for", "described", "examine", "unless_configured")

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


Check = Callable[["AsyncCelery"], Iterable[Finding]]

_NO_ANSWER: Final = (
    "The server does not answer: a firewall, a wrong host, TLS on one side only, or an overload. "
    "Look at {set}."
)

_ADVICE: Final = (
    (
        "Connection refused",
        "Start the server, or set the host and port on which it listens: {set}.",
    ),
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
    ("not installed", "Install it."),
)


def examine(
    app: AsyncCelery, checks: Mapping[str, tuple[Check, str]], timeout: float
) -> list[Finding]:
    """Run all checks at once.

    Args:
        app: The app to examine.
        checks: Each check and the settings that it depends on, by the name of what it looks at.
        timeout: Seconds for each; one that takes longer has failed.
    """
    runs = [_Run(name, check, settings, app) for name, (check, settings) in checks.items()]
    for run in runs:
        run.start()
    return [finding for run in runs for finding in run.findings(timeout)]


class _Run(threading.Thread):
    """One check. A daemon: a server that never answers does not keep the command from ending."""

    def __init__(self, name: str, check: Check, settings: str, app: AsyncCelery) -> None:
        super().__init__(name=name, daemon=True)
        self._check = check
        self._settings = settings
        self._app = app
        self._found: list[Finding] = []

    @override
    def run(self) -> None:
        try:
            self._found.extend(self._check(self._app))
        except Exception as exc:  # noqa: BLE001 (whatever is wrong, the user wants to know)
            self._found.append(
                Finding(self.name, "failed", described(exc), advice_for(exc, self._settings))
            )

    def findings(self, timeout: float) -> Iterator[Finding]:
        self.join(timeout)
        yield from tuple(self._found)
        if self.is_alive():
            detail = f"no answer within {timeout:g} s"
            yield Finding(self.name, "failed", detail, _NO_ANSWER.format(set=self._settings))


def described(exc: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(exc).split()) or repr(exc)
    # SQLAlchemy appends a link to its documentation.
    return f"{type(exc).__name__}: {text.partition(' (Background on this error')[0]}"


def advice_for(exc: BaseException, settings: str) -> str:
    """What to do about an error.

    Args:
        exc: The error.
        settings: The settings that name the server.
    """
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


def unless_configured(name: str, exc: Exception, settings: str, *, is_needed: bool) -> Finding:
    """A failure; or, where nothing was set, a note: many apps use no such server.

    Args:
        name: What was looked at.
        exc: Its error.
        settings: The settings that name the server.
        is_needed: Whether somebody has said where the server is, or something needs it.
    """
    if not is_needed:
        return Finding(name, "skipped", f"not configured; tasks that use it need {settings}")
    is_missing = isinstance(exc, MissingDriverError)
    advice = described(exc) if is_missing else advice_for(exc, settings)
    return Finding(name, "failed", described(exc), advice)
