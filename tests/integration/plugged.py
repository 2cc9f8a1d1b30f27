"""An app with a user's own parts, which PLUGS names, and the tasks of the service."""

import os

from tests.integration.plugs import (
    Broken,
    NamedConnection,
    ReversedJson,
    RunRuntime,
    ThreadRuntime,
)
from tests.integration.service import add, cache, catch_soft_limit, create_user, fail, identity
from tomskit.celery import AsyncCelery, AsyncRuntime, CeleryConfig
from tomskit.protocols import ResourceProvider, Runtime, Serializer

__all__ = ("add", "app", "cache", "catch_soft_limit", "create_user", "fail", "identity")

_plugs = os.environ["PLUGS"].split(",")
_providers: list[ResourceProvider] = []
_serializer: Serializer | None = None
_runtime: Runtime = AsyncRuntime
if "thread-runtime" in _plugs:
    _runtime = ThreadRuntime()
if "run-runtime" in _plugs:
    _runtime = RunRuntime()
if "providers" in _plugs:
    _providers = [NamedConnection("first"), NamedConnection("second")]
if "broken" in _plugs:
    _providers = [NamedConnection("first"), Broken("licence")]
if "serializer" in _plugs:
    _serializer = ReversedJson()

app = AsyncCelery(
    "plugged",
    config=CeleryConfig(),
    runtime=_runtime,
    providers=_providers,
    serializer=_serializer,
)
