"""The base class of every configuration class, and the types of its fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import (
    AliasChoices,
    AllowInfNan,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from pydantic_core import InitErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tomskit._internals.pydantic import custom_error

__all__ = (
    "CommaSeparated",
    "Options",
    "Port",
    "Seconds",
    "SecondsOrZero",
    "Secret",
    "TomsKitBaseSettings",
)


if TYPE_CHECKING:
    # With these two options Pyrefly and ty check a constructor's arguments as mypy and pyright do
    # without them: no text where a number is expected, no misspelt setting.
    class _Settings(BaseSettings, strict=True, extra="forbid"):
        # Otherwise mypy compares the declaration below with BaseModel's, which has another type.
        model_config: ClassVar[SettingsConfigDict]

else:
    _Settings = BaseSettings


class TomsKitBaseSettings(_Settings):
    """Typed settings that are read from environment variables of the same names.

    A value given to the constructor wins over the environment, and the environment over the
    default. A value that does not fit raises ``pydantic.ValidationError``, which names the field
    but never contains the value, since that may be a secret. An unknown constructor argument
    raises it as well; an unknown environment variable is ignored.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        case_sensitive=True,
        # The classes have many fields, and most processes that import one never make an instance.
        defer_build=True,
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=False,
    )

    if not TYPE_CHECKING:  # type checkers see the signature of BaseSettings

        def __init__(self, **values: object) -> None:
            failure = _unknown_arguments(type(self), values)
            if failure is None:
                try:
                    super().__init__(**values)
                except ValidationError as error:
                    failure = _without_values(error)
            # Raised outside of the except clause: inside, the original error would become its
            # `__context__`, and that one's `errors()` contains the values.
            if failure is not None:
                raise failure


def _unknown_arguments(
    settings: type[TomsKitBaseSettings], values: dict[str, object]
) -> ValidationError | None:
    if settings.model_config.get("extra") != "ignore":
        return None  # pydantic itself accepts or refuses them
    unknown = values.keys() - set(_argument_names(settings))
    return _failure(
        settings.__name__,
        [
            ("extra_forbidden", (name,), "There is no such setting")
            for name in sorted(unknown)
            if not name.startswith("_")  # such as _env_file, an option of BaseSettings itself
        ],
    )


def _argument_names(settings: type[TomsKitBaseSettings]) -> Iterator[str]:
    for name, field in settings.model_fields.items():
        yield name
        alias = field.validation_alias
        for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            if isinstance(choice, str):
                yield choice


def _without_values(error: ValidationError) -> ValidationError | None:
    return _failure(
        error.title,
        [
            (detail["type"], detail["loc"], detail["msg"])
            for detail in error.errors(include_url=False, include_context=False)
        ],
    )


def _failure(
    title: str, problems: list[tuple[str, tuple[int | str, ...], str]]
) -> ValidationError | None:
    # Errors of other types make their message themselves, and some put the value into it.
    details = [
        InitErrorDetails(type=custom_error(kind, message), loc=place, input=None)
        for kind, place, message in problems
    ]
    if not details:
        return None
    return ValidationError.from_exception_data(title, details, hide_input=True)


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.strip("[]").replace('"', "").split(",") if part.strip()]


def _json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        decoded: object = json.loads(value)
    except ValueError:
        raise ValueError("the text is not valid JSON") from None
    return decoded


CommaSeparated = Annotated[list[str], NoDecode, BeforeValidator(_split)]
"""A list that an environment variable spells ``a,b,c`` (or as a JSON list)."""

Options = Annotated[dict[str, dict[str, object]] | None, NoDecode, BeforeValidator(_json)]
"""Named groups of options that an environment variable spells as a JSON object."""

Port = Annotated[PositiveInt, Field(le=65535)]
"""The number of a TCP port."""

Seconds = Annotated[PositiveFloat, AllowInfNan(False)]
"""A length of time."""

SecondsOrZero = Annotated[NonNegativeFloat, AllowInfNan(False)]
"""A length of time, or none."""

Secret = Annotated[str | None, Field(repr=False)]
"""Text that no ``repr`` shows."""
