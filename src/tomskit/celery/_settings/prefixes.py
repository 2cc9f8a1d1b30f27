"""Fields of CeleryConfig that repeat those of another configuration class, with a prefix."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from tomskit.redis.config import RedisConfig
from tomskit.settings import TomsKitBaseSettings
from tomskit.sqlalchemy.config import DatabaseConfig

__all__ = ("PREFIX", "read_like", "without_prefix")

PREFIX: Final = "CELERY_"
"""What the name of every field of CeleryConfig begins with."""

ConfigT = TypeVar("ConfigT", DatabaseConfig, RedisConfig)


def without_prefix(settings: TomsKitBaseSettings, target: type[ConfigT], prefix: str) -> ConfigT:
    """Make a `target` of the fields of `settings` that are called `prefix` and its field's name.

    Fields of `target` that `settings` does not repeat have their defaults. Nothing is read from the
    environment, and nothing is validated a second time.
    """
    known = type(settings).model_fields
    values: dict[str, Any] = {
        name: getattr(settings, prefix + name)
        for name in target.model_fields
        if prefix + name in known
    }
    return target.model_construct(**values)


def read_like(settings: TomsKitBaseSettings, target: type[ConfigT]) -> ConfigT:
    """Read a `target` from the environment, and from the file that `settings` was read from."""
    options: dict[str, Any] = {"_env_file": settings.env_file_in_use}
    return target(**options)
