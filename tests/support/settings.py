"""What tests of settings share: configurations and apps made with no regard to types."""

from collections.abc import Callable, Iterator
from typing import Protocol, cast

import click
from celery import Celery

from tomskit.celery import AsyncCelery, CeleryConfig

MakeApp = Callable[..., AsyncCelery]

# As an environment does it: with no regard to the types.
build = cast("Callable[..., CeleryConfig]", CeleryConfig)
new_app = cast("Callable[..., AsyncCelery]", AsyncCelery)


class _Backend(Protocol):
    connparams: dict[str, object]
    expires: object
    always_retry: object
    serializer: object


def backend_of(app: Celery) -> _Backend:
    return cast("_Backend", app.backend)


def settings_of(app: Celery) -> dict[str, object]:
    return dict(cast("dict[str, object]", app.conf))


def command_options(command: click.Command, prefix: str) -> Iterator[tuple[str, click.Parameter]]:
    """Every variable of the command line, as click itself makes it."""
    for parameter in command.params:
        yield f"{prefix}_{(parameter.name or '').upper()}", parameter
        named = parameter.envvar or []
        for name in [named] if isinstance(named, str) else named:
            yield name, parameter
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from command_options(below, f"{prefix}_{name.upper().replace('-', '_')}")
