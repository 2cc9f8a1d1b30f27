"""The base class of every configuration class."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ("CommaSeparated", "Secret", "TomsKitBaseSettings")


class TomsKitBaseSettings(BaseSettings):
    """Typed settings that are read from environment variables of the same names.

    A value given to the constructor wins over the environment, and the environment over the
    default. A value that does not fit raises ``pydantic.ValidationError``, which names the field
    and, since it may be a secret, not the value.
    """

    model_config = SettingsConfigDict(
        case_sensitive=True,
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=False,
    )


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.strip("[]").replace('"', "").split(",") if part.strip()]


CommaSeparated = Annotated[list[str], NoDecode, BeforeValidator(_split)]
"""A list that an environment variable spells ``a,b,c`` (or as a JSON list)."""

Secret = Annotated[str | None, Field(repr=False)]
"""Text that no ``repr`` shows."""
