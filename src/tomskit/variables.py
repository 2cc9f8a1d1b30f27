"""Environment variables: the file with more of them, and those that look like a setting."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    MutableMapping,
    Sequence,
)
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from tomskit._internals.dotenv import lines_of
from tomskit._internals.pydantic import variables_of
from tomskit.errors import ConfigurationError

__all__ = (
    "DEFAULT_FILE",
    "ENV_FILE",
    "EnvFile",
    "SettingsWarning",
    "UnlessFor",
    "check_files",
    "env_file",
    "in_lower_case",
    "misspelt",
    "place_of",
    "rename",
    "warn_of_no_effect",
)

V = TypeVar("V")

ENV_FILE: Final = "TOMSKIT_ENV_FILE"
"""The environment variable that names the file to read in place of ``.env``."""

DEFAULT_FILE: Final = ".env"
"""The file that is read where nothing names another one, if it is there."""

EnvFile = Path | str | Sequence[Path | str] | None
"""A file of variables, several of which the last wins, or none."""


class SettingsWarning(UserWarning):
    """A setting has no effect, or another one than its name says."""


class UnlessFor(NamedTuple):
    """Marks a field whose variable another program may read for a purpose of its own.

    Attributes:
        theirs: Whether a text is for that program.
        warning: What to say of a text that is for the field.
    """

    theirs: Callable[[str], bool]
    warning: str


def env_file(settings: SettingsConfigDict) -> EnvFile:
    """The file of a class of settings.

    Raises:
        ConfigurationError: ``TOMSKIT_ENV_FILE`` names a file that does not exist.
    """
    file: EnvFile = settings.get("env_file")
    if file != DEFAULT_FILE:
        return file
    # A path that a later change of the current folder leaves alone.
    named = os.environ.get(ENV_FILE)
    if not named:
        return Path(DEFAULT_FILE).absolute()
    path = Path(named).expanduser().absolute()
    if path.is_dir() or not path.exists():
        raise ConfigurationError(
            f"{ENV_FILE} names {path}, which is not a file: correct the path, or remove the "
            f"variable to read {DEFAULT_FILE} in the current folder"
        )
    return path


def check_files(file: EnvFile, encoding: str, names: Collection[str]) -> None:
    """Check that what files say of some variables can be read.

    Args:
        file: The files.
        encoding: Of their text.
        names: The variables; lines about others are none of ours.

    Raises:
        ConfigurationError: A file cannot be read, or a line names a variable and gives it no value, which
            python-dotenv ignores. The message has nothing of what the file says.
    """
    for one in _files(file):
        path = Path(one).expanduser().absolute()
        if not path.is_file():
            continue
        reason = ""
        try:
            text = path.read_text(encoding)
        except UnicodeDecodeError:
            # Python's own error holds all that the file says, passwords as well.
            text = "\0"
        except OSError as exc:
            text, reason = "", f"cannot be read: {exc.strerror}"
        if "\0" in text:
            reason = (
                f"is not text in {encoding.removesuffix('-sig').upper()}: save it in that encoding"
            )
        for line in () if reason else lines_of(text):
            found = _NAMED.match(line.text)
            if found is not None and found[1] in names and not line.has_value:
                reason = (
                    f"has a line {line.number} that does not say {found[1]}=value: correct it, quotes "
                    "included, or make it a comment"
                )
        if reason:
            raise ConfigurationError(f"{path} {reason}")


_NAMED: Final = re.compile(r"(?:export\s+)?(\w+)")


def place_of(settings: type[BaseSettings], names: Collection[str], file: EnvFile) -> str:
    """Where a setting was found: the environment or a file; empty where it is in neither.

    Args:
        settings: The class of the setting.
        names: Its names.
        file: What is read beside the environment.
    """
    if any(map(os.environ.get, names)):
        return "the environment"
    for one in reversed(_files(file)):
        lines = variables_of(DotEnvSettingsSource(settings, env_file=one))
        if any(map(lines.get, names)):
            return str(Path(one).expanduser().absolute())
    return ""


def _files(file: EnvFile) -> list[Path | str]:
    return [file] if isinstance(file, (str, Path)) else [*(file or ())]


def warn_of_no_effect(given: Collection[str], names: Iterable[str], reason: str) -> None:
    """Warn of settings that were given although they have no effect.

    Args:
        given: The settings that were given.
        names: Those that have no effect.
        reason: Why not, and what would change that.
    """
    ignored = sorted({*given}.intersection(names))
    if ignored:
        verb = "has" if len(ignored) == 1 else "have"
        text = f"{', '.join(ignored)} {verb} no effect: {reason}"
        warnings.warn(text, SettingsWarning, stacklevel=2)


_ALIKE: Final = 0.7
"""How much of a name must agree: a letter or a word may be wrong."""

# Kubernetes and Docker set these for a service called redis, db or celery.
_OF_A_SERVICE: Final = re.compile(
    r"\w+_(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?|NAME)"
)


def misspelt(
    variables: Iterable[str], prefixes: Collection[str], known: Collection[str]
) -> dict[str, str]:
    """Find the variables that are not known and look like one that is.

    Args:
        variables: Names of variables that are set.
        prefixes: What the names to look at begin with.
        known: The names that something reads.

    Returns:
        The nearest known name of each.
    """
    found: dict[str, str] = {}
    for name in sorted(variables):
        prefix = next((one for one in prefixes if name.startswith(one)), None)
        if prefix is None or name in known or _OF_A_SERVICE.fullmatch(name):
            continue
        nearest = _nearest(name, prefix, known)
        if nearest is not None:
            found[name] = nearest
    return found


def in_lower_case(
    variables: Collection[str], prefixes: Iterable[str], known: Collection[str]
) -> dict[str, str]:
    """Find the variables that are known in upper case, which pydantic's settings read by default.

    Args:
        variables: Names of variables that are set.
        prefixes: What the names to look at begin with, in upper case.
        known: The names that something reads.

    Returns:
        The known name of each, unless that is set as well.
    """
    upper = {name: name.upper() for name in variables if name != name.upper()}
    return {
        name: meant
        for name, meant in upper.items()
        if meant in known and meant not in variables and meant.startswith(tuple(prefixes))
    }


def _nearest(name: str, prefix: str, known: Collection[str]) -> str | None:
    # Without the prefix: a long one makes all names alike.
    rest = name.removeprefix(prefix)
    others = {one.removeprefix(prefix): one for one in sorted(known) if one.startswith(prefix)}
    # DB_USER for DB_USERNAME.
    longer = [one for one in others if rest and one.startswith(rest)]
    close = get_close_matches(rest, others, n=1, cutoff=_ALIKE) or sorted(longer, key=len)
    return others[close[0]] if close else None


def rename(renamed: Mapping[str, str], values: MutableMapping[str, V]) -> list[str]:
    """Give values with an earlier name the present one, and return what to say of it."""
    remarks: list[str] = []
    for earlier in renamed.keys() & values.keys():
        name, value = renamed[earlier], values.pop(earlier)
        if name in values:
            remarks.append(f"Remove {earlier}: {name} is given as well, and is used")
        else:
            values[name] = value
            remarks.append(f"{earlier} is now called {name}")
    return sorted(remarks)
