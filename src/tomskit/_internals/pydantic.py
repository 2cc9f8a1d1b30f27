"""pydantic-core: an error of a type and with a message that are known at run time only.

`PydanticCustomError`, whose parameters are annotated as literals
    For: validation errors without the values that they are about.
    When it refuses other text: a setting that does not fit raises that refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from pydantic_core import PydanticCustomError

__all__ = ("custom_error",)

custom_error: Final = cast("Callable[[str, str], PydanticCustomError]", PydanticCustomError)
"""Makes an error of a type and a message."""
