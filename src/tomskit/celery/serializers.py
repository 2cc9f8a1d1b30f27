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
from typing import Any, Final, Protocol, TypeAlias, cast
from uuid import UUID

from kombu import serialization
from kombu.utils import json as kombu_json
from pydantic import BaseModel
from pydantic_core import SchemaValidator, core_schema

from tomskit.protocols import Serializer

__all__ = ("OrjsonSerializer", "register_orjson_serializer", "register_serializer")

_SPACE: Final = 0x20
_TAB: Final = 0x09
_PLAIN_JSON: Final = bytes((_SPACE, _TAB))
"""White space that JSON allows in front: this serializer wrote it, and it has no marks.

Nothing has to be looked for in it then: 1.3 us less for 1 KB, a third of reading it.
"""
_MARKED_JSON: Final = bytes((_TAB, _SPACE))
"""The same, with marks."""


class OrjsonSerializer:
    """JSON by orjson, with kombu's marks for the types that JSON does not have.

    datetime, date, time, Decimal, UUID and bytes come back as they were, as do NaN, the
    infinities and what the application registered with `kombu.utils.json.register_type`. Tuples
    come back as lists, Enum members as their values, dataclasses and pydantic models as dicts,
    numpy arrays as lists. What JSON would change without a word is refused: keys that are not
    text, dicts that look like kombu's marks, and pairs of surrogates.
    """

    name = "orjson"
    # The same as kombu's: it is the same JSON, so plain Celery clients and workers read it.
    content_type = "application/json"
    content_encoding = "utf-8"

    def __init__(self) -> None:
        # Declared as a dependency, yet not built for every platform: imported where it is used.
        import orjson

        _register_float_mark()
        # Typed here, because typing.cast is a call: 50 ns in each of the methods below.
        self._encode: _Encode = orjson.dumps
        self._decode: Callable[[str | bytes], _Json] = orjson.loads
        self._options = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

    def dumps(self, obj: object, /) -> bytes:
        """Encode `obj`.

        Raises:
            TypeError: Something in it cannot be encoded without loss.
            ValueError: The same, found by someone else: a pydantic model, Python's json.
        """
        # marshal takes exactly the types that JSON has (and a few that orjson then refuses), so it
        # finds in C what orjson would change without a word: 1.6 us for 1 KB, _prepare takes 7.5.
        try:
            image = _marshal(obj, 4)
        except ValueError:
            return self._dumps_with_marks(obj)
        # To look for one byte takes 25 ns, the search 2.5 us for 1 KB.
        if (_HIGH in image or _NEGATIVE_HIGH in image) and _NOT_FINITE.search(image):
            return self._dumps_with_marks(obj)
        try:
            data = self._encode(obj, None, self._options)
        except TypeError:
            return self._dumps_with_marks(obj)
        if _UNDERSCORE in data and _MARK in data:
            return self._dumps_with_marks(obj)
        return _PLAIN_JSON + data

    def loads(self, data: str | bytes, /) -> object:
        """Decode JSON, of this serializer or of any other.

        Raises:
            ValueError: It is not JSON, or holds a mark that nobody knows.
        """
        try:
            # No startswith, and str comes later: 0.05 us instead of 0.1.
            start = data[0]
            if start == _SPACE and data[1] == _TAB:
                return self._decode(data)
            if start == _TAB and data[1] == _SPACE:
                return _restore(self._decode(data))
            if isinstance(data, str):
                data = data.encode()
            # orjson reads an integer beyond 64 bits as a float. The search takes 12 us for 1 KB,
            # looking for any 19 digits in a row 1.
            digits_as_zeros = data.translate(_DIGITS_AS_ZEROS)
            if _19_ZEROS not in digits_as_zeros or not _BEYOND_64_BITS.search(data):
                value = self._decode(data)
                return _restore(value) if _MARK in data else value
        except (ValueError, TypeError, LookupError, RecursionError):
            # NaN, Infinity and lone surrogates, which Python's json writes; marks of an unusual
            # form; and what is no JSON at all, for which kombu has the error.
            pass
        loaded: object = kombu_json.loads(data)
        return loaded

    def _dumps_with_marks(self, obj: object) -> bytes:
        prepared = _prepare(obj)
        try:
            return _MARKED_JSON + self._encode(prepared, None, self._options)
        except TypeError:
            # Integers beyond 64 bits and lone surrogates are beyond orjson, not beyond JSON.
            return _dumps_by_json(prepared)


def _dumps_by_json(prepared: object) -> bytes:
    text = json.dumps(prepared, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if _SURROGATE_PAIR.search(text):
        raise TypeError(
            "A text has two surrogates that would come back as one character: it was decoded "
            "wrongly. Mend it with text.encode('utf-16', 'surrogatepass').decode('utf-16')."
        )
    # A lone surrogate becomes \udxxx: the escape of Python is that of JSON as well.
    return text.encode("utf-8", "backslashreplace")


# The stubs of marshal list what it takes; what it does not take is the question here.
_marshal = cast("Callable[[object, int], bytes]", marshal.dumps)
_Encode = Callable[[object, None, int], bytes]

_MARK: Final = b'"__type__"'
_UNDERSCORE: Final = 0x5F
_HIGH: Final = 0x7F
_NEGATIVE_HIGH: Final = 0xFF
_NOT_FINITE: Final = re.compile(rb"[g\xe7].{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
"""NaN or an infinity, as marshal writes a float: a letter and eight bytes, little-endian."""
_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_19_ZEROS: Final = b"0" * 19
_BEYOND_64_BITS: Final = re.compile(rb"[0-9]{20}|-[0-9]{19}")
_SURROGATE_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def register_orjson_serializer() -> bool:
    """Make "orjson" a serializer of kombu.

    Returns:
        Whether orjson does the work. Where it cannot be imported "orjson" is another name for
        kombu's "json", and a warning has said so once.
    """
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
    # Others may have orjson, and send what it marks.
    _register_float_mark()
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


def _register_float_mark() -> None:
    # Read only: kombu's own json writes NaN and the infinities as literals that JSON lacks.
    kombu_json.register_type(float, _FLOAT, repr, float)


# Writing: everything is replaced that orjson does not know or would change without a word. Types
# are looked up exactly and subclasses come last, which is why this is quick.


def _prepare(value: object) -> object:
    return value if type(value) in _PLAIN else _PREPARERS.get(type(value), _prepare_other)(value)


def _prepare_list(value: list[object] | tuple[object, ...]) -> object:
    # _prepare once more, without its call.
    return [
        item if type(item) in _PLAIN else _PREPARERS.get(type(item), _prepare_other)(item)
        for item in value
    ]


def _prepare_dict(value: dict[object, object]) -> object:
    prepared = {
        key if type(key) is str else _prepare_key(key): (
            item if type(item) in _PLAIN else _PREPARERS.get(type(item), _prepare_other)(item)
        )
        for key, item in value.items()
    }
    if len(prepared) != len(value):
        raise TypeError("A dict has two keys that are the same text: one of them would be lost.")
    if len(prepared) == _MARK_SIZE and "__type__" in prepared and "__value__" in prepared:
        raise TypeError(
            "A dict with the two keys '__type__' and '__value__' would come back as something "
            "else: kombu marks typed values so. Use other keys."
        )
    return prepared


def _prepare_key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise TypeError(
        f"A dict has the key {key!r}, and JSON has only text as keys: it would come back as text. "
        "Use str keys, or send a list of pairs."
    )


def _prepare_float(value: float) -> object:
    return value if math.isfinite(value) else {"__type__": _FLOAT, "__value__": repr(value)}


def _prepare_datetime(value: datetime) -> object:
    return {"__type__": "datetime", "__value__": value.isoformat()}


def _prepare_date(value: date) -> object:
    return {"__type__": "date", "__value__": value.isoformat()}


def _prepare_time(value: time) -> object:
    return {"__type__": "time", "__value__": value.isoformat()}


def _prepare_decimal(value: Decimal) -> object:
    return {"__type__": "decimal", "__value__": str(value)}


def _prepare_uuid(value: UUID) -> object:
    return {"__type__": "uuid", "__value__": {"hex": value.hex}}


def _prepare_other(value: object) -> object:
    if isinstance(value, _JSON_TYPES):
        return _prepare_subclass(cast("object", value))
    try:
        # What the application registered with kombu, __json__ methods, bytes, and subclasses of
        # the types above.
        encoded = _kombu_default(value)
    except TypeError:
        plain = _plain_form(value)
        if plain is value:
            raise
        return _prepare(plain)
    if type(encoded) is not dict:
        return _prepare(encoded)
    pairs = cast("dict[object, object]", encoded)
    if pairs.keys() == {"__type__", "__value__"}:
        return {"__type__": pairs["__type__"], "__value__": _prepare(pairs["__value__"])}
    return _prepare_dict(pairs)


def _prepare_subclass(value: object) -> object:
    if isinstance(value, enum.Enum):
        return _prepare(cast("object", value.value))
    if isinstance(value, dict):
        # Not as it is: Celery's group has a len() of its own.
        return _prepare_dict(dict(cast("dict[object, object]", value).items()))
    if isinstance(value, (list, tuple)):
        return _prepare_list(cast("list[object]", value))
    if isinstance(value, float):
        return _prepare_float(float(value))
    # str and int: every encoder writes them as what they extend.
    return value


def _plain_form(value: object) -> object:
    """What stands for `value` in JSON; `value` itself where nothing does."""
    if isinstance(value, enum.Enum):
        return cast("object", value.value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: cast("object", getattr(value, name)) for name in names}
    if hasattr(value, "__array__") and hasattr(value, "tolist"):
        return _array_items(cast("_Array", value))
    return value


class _Array(Protocol):
    """What numpy's arrays and scalars have."""

    def tolist(self) -> object: ...
    def ravel(self) -> _Array: ...


def _array_items(array: _Array) -> object:
    kind: object = getattr(getattr(array, "dtype", None), "kind", None)
    if kind == "M":
        moments = cast("list[object]", array.ravel().tolist())
        if not all(isinstance(moment, date) for moment in moments):
            raise TypeError(
                "A numpy datetime64 is NaT or finer than microseconds: it would come back as None "
                "or as a number. Send array.astype('datetime64[us]') without NaT."
            )
    return array.tolist()


_FLOAT: Final = "float"
_MARK_SIZE: Final = 2
_PLAIN: Final = frozenset({str, int, bool, type(None)})
"""What orjson writes as it is; anything beyond 64 bits it refuses by itself."""
_JSON_TYPES: Final = (str, int, float, list, tuple, dict)
_PREPARERS: Final[Mapping[type, Callable[..., object]]] = {
    list: _prepare_list,
    tuple: _prepare_list,
    dict: _prepare_dict,
    float: _prepare_float,
    datetime: _prepare_datetime,
    date: _prepare_date,
    time: _prepare_time,
    Decimal: _prepare_decimal,
    UUID: _prepare_uuid,
}
_kombu_default: Final[Callable[[object], object]] = kombu_json.JSONEncoder().default


# Reading: marks become values, innermost first, in the lists and dicts that orjson made.

_Json: TypeAlias = "dict[str, _Json] | list[_Json] | str | float | None"
"""What orjson makes (and, once restored, anything)."""


def _restore(value: _Json) -> _Json:
    if type(value) is dict:
        return _restore_dict(value)
    if type(value) is list:
        return _restore_list(value)
    return value


def _restore_list(items: list[_Json]) -> _Json:
    for index, item in enumerate(items):
        # _restore once more, without its call.
        if type(item) is dict:
            items[index] = _restore_dict(item)
        elif type(item) is list:
            _restore_list(item)
    return items


def _restore_dict(pairs: dict[str, _Json]) -> _Json:
    if len(pairs) == _MARK_SIZE and "__type__" in pairs and "__value__" in pairs:
        return _restore_mark(pairs)
    for key, item in pairs.items():
        if type(item) is dict:
            pairs[key] = _restore_dict(item)
        elif type(item) is list:
            _restore_list(item)
    return pairs


def _restore_mark(mark: dict[str, _Json]) -> _Json:
    kind, value = mark["__type__"], mark["__value__"]
    # The usual ones not by kombu's hook: 0.2 us for a UUID instead of 1, 0.12 for a datetime
    # instead of 0.2.
    restored: _Json
    if type(value) is str and kind in _DECODERS:
        restored = _DECODERS[kind](value)
    elif kind == "uuid" and type(value) is dict and len(value) == 1:
        restored = _uuid(value["hex"])
    else:
        mark["__value__"] = _restore(value)
        restored = kombu_json.object_hook(mark)
    return restored


def _restore_date(text: str) -> date:
    # As kombu: a time may follow.
    return datetime.fromisoformat(text).date()


_DECODERS: Final[Mapping[_Json, Callable[[str], Any]]] = {
    "datetime": datetime.fromisoformat,
    "date": _restore_date,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "bytes": str.encode,
    _FLOAT: float,
}
_uuid: Final[Callable[[_Json], Any]] = SchemaValidator(core_schema.uuid_schema()).validate_python
"""Made in Rust: 120 ns, where UUID(hex) takes 700."""
