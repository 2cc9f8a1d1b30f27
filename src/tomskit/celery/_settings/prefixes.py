"""Fields of CeleryConfig that repeat those of another configuration class, with a prefix."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from pydantic.fields import FieldInfo

from tomskit.redis.config import RedisConfig
from tomskit.settings import TomsKitBaseSettings
from tomskit.sqlalchemy.config import DatabaseConfig

__all__ = ("PREFIX", "read_like", "setting_name", "without_prefix")

PREFIX: Final = "CELERY_"
"""What the name of every field of CeleryConfig begins with."""

ConfigT = TypeVar("ConfigT", DatabaseConfig, RedisConfig)


def without_prefix(settings: TomsKitBaseSettings, target: type[ConfigT], prefix: str) -> ConfigT:
    """Make a `target` of the fields of `settings` that are called `prefix` and its field's name.

    Fields of `target` that `settings` does not repeat have their defaults. Nothing is read from the
    environment, and nothing is validated a second time.
    """
    known = {setting_name(*field): field[0] for field in type(settings).model_fields.items()}
    values: dict[str, Any] = {}
    given: set[str] = set()
    for field in target.model_fields.items():
        own = known.get(prefix + setting_name(*field))
        if own is not None:
            values[setting_name(*field)] = getattr(settings, own)
            if own in settings.model_fields_set:
                given.add(field[0])
    return target.model_construct(given, **values)


def setting_name(field: str, info: FieldInfo) -> str:
    """What a field is called in the environment, and as an argument."""
    return info.alias or field


def read_like(settings: TomsKitBaseSettings, target: type[ConfigT]) -> ConfigT:
    """Read a `target` from the environment, and from the file that `settings` was read from."""
    options: dict[str, Any] = {"_env_file": settings.env_file_in_use}
    return target(**options)
