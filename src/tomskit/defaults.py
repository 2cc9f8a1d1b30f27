"""Defaults of settings that a subclass has changed."""

from __future__ import annotations

from functools import cache
from inspect import getattr_static

from pydantic_settings import BaseSettings

from tomskit.errors import ConfigurationError

__all__ = ("changed_defaults", "check_fields", "is_configured")


@cache
def changed_defaults(settings: type[BaseSettings]) -> frozenset[str]:
    """Names of the fields that have another default than in the class that they come from."""
    return frozenset(name for name in settings.model_fields if _has_changed(settings, name))


def _has_changed(settings: type[BaseSettings], name: str) -> bool:
    origin = next(
        base
        for base in reversed(settings.__mro__)
        if issubclass(base, BaseSettings) and name in base.model_fields
    )
    now, before = settings.model_fields[name], origin.model_fields[name]
    return now is not before and (now.default, now.default_factory) != (
        before.default,
        before.default_factory,
    )


def is_configured(settings: BaseSettings) -> bool:
    """Whether anything was said: by an argument, the environment, a file, or a subclass's default."""
    return bool(settings.model_fields_set or changed_defaults(type(settings)))


def check_fields(settings: type[BaseSettings]) -> None:
    """Refuse a field with a name that is taken, such as CELERY_BROKER_URL: it would have no effect.

    Raises:
        ConfigurationError: There is one.
    """
    arguments = {field.alias for field in settings.model_fields.values()}
    for name in settings.model_fields:
        if name in arguments:
            way_out = (
                f"give it as an argument, {settings.__name__}({name}=...), or in the environment"
            )
        elif isinstance(getattr_static(settings, name, None), property):
            way_out = "it is computed from other settings: change the defaults of those"
        else:
            continue
        raise ConfigurationError(
            f"The default of {name} in the class {settings.__name__} would have no effect: {way_out}"
        )
