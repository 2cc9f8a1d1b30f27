"""What tests of settings share: configurations and apps made with no regard to types."""

from collections.abc import Callable
from typing import Protocol, cast

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
