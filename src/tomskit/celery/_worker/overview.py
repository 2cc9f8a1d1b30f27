"""What is in force, for the banner of a worker and for ``celery report``, without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from sqlalchemy.engine import URL, make_url

from tomskit.defaults import is_configured
from tomskit.redis import RedisProvider
from tomskit.sqlalchemy import DatabaseProvider

if TYPE_CHECKING:
    from tomskit.celery._app import AsyncApp
    from tomskit.celery._internals.celery_worker import Worker
    from tomskit.protocols import ResourceProvider

__all__ = ("banner", "described", "masked", "report")

_PACKAGES: Final = ("tomskit", "redis", "sqlalchemy", "pydantic", "orjson")
_CELERYS_MASK: Final = "*" * 8


def report(app: AsyncApp, text: str) -> str:
    """Celery's report, with what tomskit adds to it."""
    for name in ("broker_url", "broker_read_url", "broker_write_url"):
        url: object = app.conf.get(name)
        if isinstance(url, str) and url:
            # Celery hides a password where there is none, or all of the URL.
            line = f"{name}: {masked(str.__str__(url), _CELERYS_MASK)!r}"
            text = re.sub(rf"^{name}: .*$", line.replace("\\", r"\\"), text, flags=re.MULTILINE)
    facts = (("pool", pool_name(app.conf.worker_pool)), *_facts(app))
    lines = (f"{name:<9} -> {value}" for name, value in facts)
    return "\n".join((text.rstrip("\n"), "", *lines, ""))


def banner(worker: Worker, app: AsyncApp, draw: Callable[..., str], **options: object) -> str:
    """Celery's banner, with what tomskit adds to it.

    Args:
        worker: Whose banner it is.
        app: Its app.
        draw: Celery's method that makes the banner.
        **options: Of that method.
    """
    lines: list[str] = []
    for line in draw(**options).splitlines():
        before, found, after = line.partition(".> concurrency: ")
        if not found:
            lines.append(line)
            continue
        count, _, _ = after.rpartition(" (")
        lines.append(f"{before}{found}{count} ({pool_name(worker.pool_cls)})")
        lines += [f"{before}.> {name + ':':<12} {value}" for name, value in _facts(app)]
    return "\n".join(lines) + "\n"


def pool_name(pool: type[object] | str) -> str:
    """What ``-P`` and ``worker_pool`` call a pool."""
    module = pool if isinstance(pool, str) else pool.__module__
    name = module.rpartition(".")[2]
    return _POOLS.get(name, name)


_POOLS: Final = {"asyncio_pool": "asyncio", "thread": "threads"}


def _facts(app: AsyncApp) -> Iterable[tuple[str, str]]:
    yield "versions", " ".join(_versions())
    yield "fast path", _FAST_PATH[app.config.CELERY_REDIS_FAST_PATH]
    for provider in app.resources.providers:
        yield provider.name, described(provider) if _is_somewhere(provider) else "not configured"


def _is_somewhere(provider: ResourceProvider) -> bool:
    # Nobody has a database at the default address; a Redis is often there.
    return not isinstance(provider, DatabaseProvider) or is_configured(provider.config)


_FAST_PATH: Final = {
    None: "in the asyncio pool",
    True: "in every pool",
    False: "off",
}


def described(provider: ResourceProvider) -> str:
    """Where a provider's resource is."""
    if isinstance(provider, DatabaseProvider):
        return _database(make_url(provider.config.SQLALCHEMY_DATABASE_URI))
    if isinstance(provider, RedisProvider):
        return masked(provider.config.REDIS_URL)
    return f"{type(provider).__module__}.{type(provider).__qualname__}"


def _database(url: URL) -> str:
    server = url.set(query={}).render_as_string(hide_password=True)
    # An option may be a password.
    options = (
        f"{name}={value if name in _SHOWN_OPTIONS else '***'}" for name, value in url.query.items()
    )
    return "?".join(filter(None, (server, "&".join(options))))


_SHOWN_OPTIONS: Final = frozenset({"charset", "client_encoding"})


def masked(url: str, mask: str = "***") -> str:
    """A URL, or several, without its password."""
    return ";".join(_PASSWORD.sub(rf"\1:{mask}@", one) for one in url.split(";"))


_PASSWORD: Final = re.compile("(://[^:/@]*):.*@")


def _versions() -> Iterable[str]:
    for name in _PACKAGES:
        try:
            yield f"{name}:{version(name)}"
        except PackageNotFoundError:
            continue
