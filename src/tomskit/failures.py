"""Errors of settings: what is allowed and where the value stands, never the value itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails
from pydantic_settings import BaseSettings

from tomskit._internals.pydantic import custom_error
from tomskit.variables import EnvFile, place_of

__all__ = ("failure", "without_values")

_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]+")

_WHOLE: Final = "Input should be a whole number"

_PLAINER: Final = {
    "bool_parsing": "Input should be true or false",
    "bool_type": "Input should be true or false",
    "dict_type": 'Input should be an object, in a variable as JSON: {"name": {"option": "value"}}',
    "float_parsing": "Input should be a number",
    "float_type": "Input should be a number",
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
}
"""What is allowed, where pydantic says it in Python's words."""


def without_values(
    error: ValidationError,
    settings: type[BaseSettings],
    renamed: Mapping[str, str],
    given: Collection[str],
    file: EnvFile,
) -> ValidationError | None:
    """An error that says where a value stands, and has no value in it.

    Args:
        error: As pydantic raises it.
        settings: The class of the settings.
        renamed: Earlier names of settings, and those that they have now.
        given: The names of arguments.
        file: What is read beside the environment.
    """

    def place(name: str) -> str:
        names = {name, *(one for one, now in renamed.items() if now == name)}
        return "" if names.intersection(given) else place_of(settings, names, file)

    def message(detail: ErrorDetails) -> str:
        said = _PLAINER.get(detail["type"], detail["msg"]).removeprefix("Value error, ")
        if detail["loc"]:
            found = place(str(detail["loc"][0]))
            if not found:
                return said
            return (
                f"{said} It is set in {found}"
                if said[-1:] == "?"
                else f"{said}; it is set in {found}"
            )
        # Of several settings, which the message names.
        places: dict[str, list[str]] = {}
        for name in dict.fromkeys(_NAME.findall(said)):
            if name in settings.model_fields and (found := place(name)):
                places.setdefault(found, []).append(name)
        where = [
            f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} set in {found}"
            for found, names in places.items()
        ]
        return "; ".join((said, *where))

    return failure(
        error.title,
        [
            (detail["type"], detail["loc"], message(detail))
            for detail in error.errors(include_url=False, include_context=False)
        ],
    )


def failure(
    title: str, problems: list[tuple[str, tuple[int | str, ...], str]]
) -> ValidationError | None:
    """An error of these problems: each a type, the names of what it is about, and a message."""
    # Errors of other types make their message themselves, and some put the value into it.
    details = [
        InitErrorDetails(type=custom_error(kind, message), loc=place, input=None)
        for kind, place, message in problems
    ]
    if not details:
        return None
    return ValidationError.from_exception_data(title, details, hide_input=True)
