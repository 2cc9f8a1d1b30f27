"""pydantic: errors that are known at run time only, and the variables of a source of settings.

`PydanticCustomError`, whose parameters are annotated as literals
    For: validation errors without the values that they are about.
    When it refuses other text: a setting that does not fit raises that refusal.

`EnvSettingsSource.env_vars`
    For: warning of variables that look like a setting and are none, in the environment and in the
    file; and leaving a variable alone that another program reads for its own purpose.
    When it is missing: reading any settings raises AttributeError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, cast

from pydantic_core import PydanticCustomError
from pydantic_settings import EnvSettingsSource, PydanticBaseSettingsSource

__all__ = ("custom_error", "set_variables", "variables_of")

custom_error: Final = cast("Callable[[str, str], PydanticCustomError]", PydanticCustomError)
"""Makes an error of a type and a message."""


def variables_of(source: PydanticBaseSettingsSource) -> Mapping[str, str | None]:
    """The variables of an environment or of a file; none of another source."""
    return source.env_vars if isinstance(source, EnvSettingsSource) else {}


def set_variables(source: PydanticBaseSettingsSource, variables: Mapping[str, str | None]) -> None:
    """Let an environment or a file have these variables."""
    if isinstance(source, EnvSettingsSource):
        source.env_vars = variables
