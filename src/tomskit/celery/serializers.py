"""The orjson serializer: plain JSON that Celery's own "json" reads and writes as well."""

from __future__ import annotations

import dataclasses
import enum
import json
import marshal
import math
import re
import warnings
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Final, cast
from uuid import UUID

from kombu import serialization
from kombu.utils import json as kombu_json
from pydantic import BaseModel

from tomskit.protocols import Serializer

__all__ = ("OrjsonSerializer", "register_orjson_serializer", "register_serializer")

_PLAIN: Final = frozenset({str, int, bool, type(None)})
"""What orjson writes as it is; anything beyond 64 bits it refuses by itself."""


class OrjsonSerializer:
    """JSON by orjson, with kombu's marks for the types that JSON does not have.

    datetime, date, time, Decimal, UUID and bytes come back as they were, as do NaN and the
    infinities. Tuples come back as lists, Enum members as their values, dataclasses and pydantic
    models as dicts, numpy arrays as lists. What JSON would change without a word is refused:
    keys that are not text, and dicts that look like kombu's marks.
    """

    name = "orjson"
    # The same as kombu's: it is the same JSON, so plain Celery clients and workers read it.
    content_type = "application/json"
    content_encoding = "utf-8"

    def __init__(self) -> None:
        # Declared as a dependency, yet not built for every platform: imported where it is used.
        import orjson

        self._encode = orjson.dumps
        self._decode = orjson.loads
        self._options = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

    def dumps(self, obj: object, /) -> bytes:
        """Encode `obj`.

        Raises:
            TypeError: Something in it cannot be encoded without loss.
        """
        # marshal takes exactly the types that JSON has (and a few that orjson then refuses), so it
        # finds in C what orjson would change without a word: 1.5 us for 1 KB, a walk in Python 12.
        try:
            image = _marshal(obj, 4)
        except ValueError:
            return self._dumps_with_marks(obj)
        if (_HIGH in image or _NEGATIVE_HIGH in image) and _NOT_FINITE.search(image):
            return self._dumps_with_marks(obj)
        try:
            data = self._encode(obj, _default, self._options)
        except TypeError:
            return self._dumps_with_marks(obj)
        if _UNDERSCORE in data and b'"__type__"' in data:
            return self._dumps_with_marks(obj)
        return _PLAIN_JSON + data

    def loads(self, data: str | bytes, /) -> object:
        """Decode JSON, of this serializer or of any other.

        Raises:
            ValueError: It is not JSON, or holds a mark that nobody knows.
        """
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        if data.startswith(_PLAIN_JSON):
            return cast("object", self._decode(data))
        if not data.startswith(_MARKED_JSON) and _BEYOND_64_BITS.search(data):
            # orjson reads an integer beyond 64 bits as a float.
            return _exact_loads(data)
        try:
            value: object = self._decode(data)
        except ValueError:
            # NaN, Infinity and lone surrogates, which Python's json writes.
            return _exact_loads(data)
        return _restore(value) if b'"__type__"' in data else value

    def _dumps_with_marks(self, obj: object) -> bytes:
        prepared = _prepare(obj)
        try:
            return _MARKED_JSON + self._encode(prepared, _default, self._options)
        except TypeError:
            # Integers beyond 64 bits and lone surrogates are beyond orjson, not beyond JSON.
            text = json.dumps(prepared, default=_default, allow_nan=False, separators=(",", ":"))
            return text.encode("ascii")


# The stubs of marshal list what it takes; what it does not take is the question here.
_marshal = cast("Callable[[object, int], bytes]", marshal.dumps)

_PLAIN_JSON: Final = b" \t"
"""White space that JSON allows in front: this serializer wrote it, and it has no marks.

Nothing has to be looked for in it then: 1.1 us less for 1 KB, a third of reading it.
"""
_MARKED_JSON: Final = b"\t "
"""The same, with marks."""
_HIGH: Final = 0x7F
_NEGATIVE_HIGH: Final = 0xFF
_UNDERSCORE: Final = 0x5F
_NOT_FINITE: Final = re.compile(rb"[g\xe7].{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
"""NaN or an infinity, as marshal writes a float: a letter and eight bytes, little-endian."""
_BEYOND_64_BITS: Final = re.compile(rb"[0-9]{20}|-[0-9]{19}")


def _exact_loads(data: bytes) -> object:
    return cast("object", kombu_json.loads(data.decode("utf-8", "surrogatepass")))


def register_orjson_serializer() -> bool:
    """Make "orjson" a serializer of kombu.

    Returns:
        Whether orjson does the work. Where it cannot be imported "orjson" is another name for
        kombu's "json", and a warning has said so once.
    """
    kombu_json.register_type(float, "float", repr, float)
    try:
        register_serializer(OrjsonSerializer())
    except ImportError:
        pass
    else:
        return True
    warnings.warn(
        "orjson cannot be imported: the serializer 'orjson' is Celery's 'json' here, which is "
        "slower. Install it: pip install orjson",
        RuntimeWarning,
        stacklevel=2,
    )
    serialization.register(
        OrjsonSerializer.name,
        kombu_json.dumps,
        kombu_json.loads,
        content_type=OrjsonSerializer.content_type,
        content_encoding=OrjsonSerializer.content_encoding,
    )
    return False


def register_serializer(serializer: Serializer) -> None:
    """Make `serializer` known to kombu, for this process."""

    def loads(data: str | bytes | bytearray | memoryview) -> object:
        # Some transports hand out buffers.
        return serializer.loads(data if isinstance(data, (str, bytes)) else bytes(data))

    serialization.register(
        serializer.name,
        # kombu-stubs want an encoder that returns str; kombu sends bytes as they are.
        cast("Callable[[object], str]", serializer.dumps),
        loads,
        content_type=serializer.content_type,
        content_encoding=serializer.content_encoding,
    )


def _prepare(value: object) -> object:
    """`value` with everything replaced that orjson would change silently.

    Returns the same object where there is nothing to replace.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    prepare = _PREPARERS.get(kind)
    return _prepare_other(value) if prepare is None else prepare(value)


def _prepare_list(value: list[object] | tuple[object, ...]) -> object:
    if _PLAIN.issuperset(map(type, value)):
        return value
    return [_prepare(item) for item in value]


def _prepare_dict(value: Mapping[object, object]) -> object:
    if not _TEXT.issuperset(map(type, value)):
        value = {_key(key): item for key, item in value.items()}
    if len(value) == 2 and "__type__" in value and "__value__" in value:  # noqa: PLR2004
        raise TypeError(
            "A dict with the two keys '__type__' and '__value__' would come back as something "
            "else: kombu marks typed values so. Use other keys."
        )
    if _PLAIN.issuperset(map(type, value.values())):
        return value
    return {key: _prepare(item) for key, item in value.items()}


def _key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise TypeError(
        f"A dict has the key {key!r}, and JSON has only text as keys: it would come back as text. "
        "Use str keys, or send a list of pairs."
    )


def _prepare_float(value: float) -> object:
    return value if math.isfinite(value) else _mark("float", repr(value))


def _prepare_uuid(value: UUID) -> object:
    return _mark("uuid", {"hex": value.hex})


def _prepare_other(value: object) -> object:
    if isinstance(value, enum.Enum):
        return _prepare(cast("object", value.value))
    if isinstance(value, dict):
        return _prepare_dict(cast("dict[object, object]", value))
    if isinstance(value, (list, tuple)):
        return _prepare_list(list(cast("list[object]", value)))
    if isinstance(value, float):
        return _prepare_float(float(value))
    if isinstance(value, UUID):
        return _prepare_uuid(value)
    return value


_TEXT: Final = frozenset({str})
_PREPARERS: Final[Mapping[type, Callable[..., object]]] = {
    list: _prepare_list,
    tuple: _prepare_list,
    dict: _prepare_dict,
    float: _prepare_float,
    UUID: _prepare_uuid,
}


def _mark(kind: str, value: object) -> dict[str, object]:
    return {"__type__": kind, "__value__": value}


def _default(value: object) -> object:  # noqa: PLR0911 (one line a type)
    """What orjson calls for a type that it does not know."""
    if isinstance(value, datetime):
        return _mark("datetime", value.isoformat())
    if isinstance(value, date):
        return _mark("date", value.isoformat())
    if isinstance(value, time):
        return _mark("time", value.isoformat())
    if isinstance(value, Decimal):
        return _mark("decimal", str(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return _prepare({name: cast("object", getattr(value, name)) for name in names})
    if isinstance(value, BaseModel):
        return _prepare(value.model_dump(mode="json", by_alias=True, round_trip=True))
    if hasattr(value, "__array__"):
        tolist: Callable[[], object] | None = getattr(value, "tolist", None)
        if tolist is not None:
            return _prepare(tolist())
    # Whatever else kombu's json knows: bytes, __json__ methods, registered types. It raises
    # TypeError for the rest.
    encoded: object = kombu_json.JSONEncoder().default(value)
    if isinstance(encoded, dict) and encoded.keys() == {"__type__", "__value__"}:
        mark = cast("dict[str, object]", encoded)
        return {"__type__": mark["__type__"], "__value__": _prepare(mark["__value__"])}
    return _prepare(encoded)


def _restore(value: object) -> object:
    """Turn kombu's marks back into values, in place and innermost first."""
    if type(value) is list:
        items = cast("list[object]", value)
        for index, item in enumerate(items):
            if type(item) in _CONTAINERS:
                items[index] = _restore(item)
        return items
    pairs = cast("dict[str, object]", value)
    for key, item in pairs.items():
        if type(item) in _CONTAINERS:
            pairs[key] = _restore(item)
    if len(pairs) == 2 and "__type__" in pairs and "__value__" in pairs:  # noqa: PLR2004
        if pairs["__type__"] == "datetime":
            return datetime.fromisoformat(cast("str", pairs["__value__"]))
        return cast("object", kombu_json.object_hook(pairs))
    return pairs


_CONTAINERS: Final = frozenset({list, dict})
