"""JSON by orjson where it can be imported, else by Python's own module."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

__all__ = ("dumps", "loads")

if TYPE_CHECKING:
    loads: Callable[[bytes], object]
    dumps: Callable[[object], bytes]
else:
    try:
        from orjson import dumps, loads
    except ImportError:
        loads = json.loads

        def dumps(value: object) -> bytes:
            """JSON in UTF-8."""
            return json.dumps(value).encode()
