"""Fields of CeleryConfig that repeat those of another configuration class, with a prefix."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, TypeVar

from pydantic.fields import FieldInfo

from tomskit.defaults import changed_defaults
from tomskit.redis.config import RedisConfig
from tomskit.settings import TomsKitBaseSettings
from tomskit.sqlalchemy.config import DatabaseConfig

__all__ = ("PREFIX", "read_like", "setting_name", "with_changed_defaults", "without_prefix")

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
    """Read a `target` from the environment, and from the file that `settings` was read from.

    A class of settings that is a `target` as well has these fields itself, arguments and changed defaults
    included.
    """
    if isinstance(settings, target):
        return without_prefix(settings, target, "")
    options: dict[str, Any] = {"_env_file": settings.env_file_in_use}
    return target(**options)


def with_changed_defaults(
    config: ConfigT, settings: TomsKitBaseSettings, prefix: str, of_the_url: Collection[str]
) -> ConfigT:
    """A configuration with the defaults that a subclass has changed, where it says nothing else.

    Args:
        config: What the environment says.
        settings: Of the subclass.
        prefix: What its names of the fields have in front.
        of_the_url: Fields of the configuration that its URL says, if it has one.
    """
    changed = changed_defaults(type(settings))
    fields = type(config).model_fields
    said = set(config.model_fields_set)
    if any(fields[name].alias is not None for name in said):
        said.update(of_the_url)
    update = {
        name: getattr(settings, prefix + name)
        for name in fields
        if prefix + name in changed and name not in said
    }
    return config.model_copy(update=update) if update else config
