"""Serializers and compression methods that settings name: are they registered?"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from kombu.exceptions import SerializerNotInstalled
from kombu.serialization import dumps, prepare_accept_content
from typing_extensions import override

from tomskit.celery._settings.checked import METHODS, compresses
from tomskit.variables import place_of

if TYPE_CHECKING:
    from tomskit.celery._app import AsyncApp
    from tomskit.celery.config import CeleryConfig

__all__ = (
    "OF_RESULTS",
    "Problem",
    "can_encode",
    "unknown_encodings",
    "unknown_of_tasks",
    "unread_encodings",
)


class Problem(NamedTuple):
    """What is wrong, and what to do, each a sentence."""

    detail: str
    advice: str

    @override
    def __str__(self) -> str:
        return f"{self.detail} {self.advice}"


OF_RESULTS: Final = frozenset(
    {"result_serializer", "result_compression", "result_accept_content", "accept_content"}
)
"""The settings that a result backend reads when it is made."""


def can_encode(name: str) -> bool:
    """Whether a serializer of this name is registered, and the package that it needs installed."""
    try:
        dumps(None, serializer=name)
    except SerializerNotInstalled:
        return False
    except Exception:  # noqa: BLE001 (it is there, and has looked at a value that is not its kind)
        return True
    return True


def unknown_encodings(app: AsyncApp, only: Collection[str] = ()) -> Iterator[Problem]:
    """What to do about each setting of `app` with a name that nothing is registered under.

    Args:
        app: Its configuration may have come from anywhere.
        only: Look at these of Celery's settings; at all by default.
    """
    for setting, kind in _KINDS.items():
        if only and setting not in only:
            continue
        value: str | Collection[str] | None = app.conf.get(setting)
        names = {value} if isinstance(value, str) else set(value or ())
        for name in sorted(one for one in names if not kind.is_known(one)):
            yield kind.missing(_described(app.config, setting, value, name))


def unknown_of_tasks(app: AsyncApp) -> Iterator[Problem]:
    """What to do about each task whose own serializer or compression is not registered."""
    for task_name, task in sorted(app.tasks.items()):
        for option, setting in (
            ("serializer", "task_serializer"),
            ("compression", "task_compression"),
        ):
            kind = _KINDS[setting]
            name: object = getattr(task, option, None)
            # Celery gives tasks the name in the settings.
            if isinstance(name, str) and name != app.conf.get(setting) and not kind.is_known(name):
                yield kind.missing(f"The {option} of the task {task_name} is {name!r}")


def unread_encodings(app: AsyncApp) -> Iterator[Problem]:
    """What to say of serializers that the app writes with and does not read."""
    conf = app.conf
    of_results = "accept_content" if conf.result_accept_content is None else "result_accept_content"
    for setting, accepting, what in (
        ("task_serializer", "accept_content", "messages that this app sends"),
        ("result_serializer", of_results, "results that it stores"),
    ):
        name, accepted = conf[setting], conf[accepting]
        if accepted is None or not _content_types([name]) - _content_types(accepted):
            continue
        shown = _shown(app.config, accepting, accepted)
        yield Problem(
            f"{_described(app.config, setting, name, name)}, and {shown} does not name it: {what} "
            "are rejected.",
            f"Add {name!r} to {shown}.",
        )


def _content_types(names: Iterable[str]) -> set[str]:
    return prepare_accept_content(names) or set()


def _is_read(name: str) -> bool:
    try:
        prepare_accept_content([name])
    except SerializerNotInstalled:
        return False
    return True


class _Kind(NamedTuple):
    """What a setting names.

    Attributes:
        title: What it is called.
        is_known: Whether one of a name is there, as far as the setting needs it.
        is_there: Whether all of it is there.
        usual: Names that are worth a try.
        way_out: How to get another one.
    """

    title: str
    is_known: Callable[[str], bool]
    is_there: Callable[[str], bool]
    usual: Collection[str]
    way_out: str

    def missing(self, described: str) -> Problem:
        """The problem of a name that nothing is registered under."""
        there = ", ".join(filter(self.is_there, self.usual))
        return Problem(
            f"{described}, and no {self.title} of that name is registered.",
            f"Use one of {there}, or {self.way_out} in a module that the app imports, before the app is "
            "finalized.",
        )


_WRITTEN: Final = _Kind(
    "serializer",
    can_encode,
    can_encode,
    ("json", "msgpack", "orjson", "pickle", "yaml"),
    "install its package (PyYAML for yaml, msgpack for msgpack), or register it with "
    "kombu.serialization.register",
)
_READ: Final = _WRITTEN._replace(is_known=_is_read)
_COMPRESSION: Final = _Kind(
    "compression",
    compresses,
    compresses,
    METHODS,
    "install its package (zstandard for zstd), or register it with kombu.compression.register",
)
_KINDS: Final = {
    "accept_content": _READ,
    "result_accept_content": _READ,
    "task_serializer": _WRITTEN,
    "result_serializer": _WRITTEN,
    "event_serializer": _WRITTEN,
    "task_compression": _COMPRESSION,
    "result_compression": _COMPRESSION,
}


def _shown(config: CeleryConfig, setting: str, value: object) -> str:
    """The name by which a setting was given: a CeleryConfig's, or Celery's own."""
    field = f"CELERY_{setting.upper()}"
    return field if vars(config).get(field) == value else setting


def _described(config: CeleryConfig, setting: str, value: object, name: str) -> str:
    shown = _shown(config, setting, value)
    verb = "names" if "accept" in setting else "is"
    where = ""
    if shown in config.model_fields_set:
        place = place_of(type(config), {shown}, config.env_file_in_use)
        # An argument may have won over a variable.
        if place and name in os.environ.get(shown, name):
            where = f", which is set in {place}"
    return f"{shown} {verb} {name!r}{where}"
