"""The orjson serializer: plain JSON that Celery's own "json" reads and writes as well."""

from __future__ import annotations

import json
import marshal
import re
import warnings
from collections.abc import Callable
from typing import Final, cast

from kombu import serialization
from kombu.utils import json as kombu_json

from tomskit.celery._values.marks import Json, register_float_mark, restore, with_marks
from tomskit.protocols import Serializer

__all__ = (
    "OrjsonSerializer",
    "register_orjson_serializer",
    "register_serializer",
)

_SPACE: Final = 0x20
_TAB: Final = 0x09
_PLAIN_JSON: Final = bytes((_SPACE, _TAB))
"""White space before the JSON, which JSON allows: this serializer wrote it, and it has no marks.

So nothing has to be searched for marks: 1.3 us less for 1 KB, a third of reading it.
"""
_MARKED_JSON: Final = bytes((_TAB, _SPACE))
"""The same, with marks."""


class OrjsonSerializer:
    """JSON by orjson, with kombu's marks for the types that JSON does not have.

    datetime, date, time, Decimal, UUID and bytes come back as they were, as do NaN, the
    infinities and what the application registered with `kombu.utils.json.register_type`. Tuples
    come back as lists, Enum members as their values, dataclasses and pydantic models as dicts,
    numpy arrays as lists. What JSON would change without notice is refused: keys that are not
    text, dicts that look like kombu's marks, and pairs of surrogates.
    """

    name = "orjson"
    # The same as kombu's: it is the same JSON, so plain Celery clients and workers read it.
    content_type = "application/json"
    content_encoding = "utf-8"

    def __init__(self) -> None:
        # Declared as a dependency, yet not built for every platform: imported where it is used.
        import orjson

        register_float_mark()
        # Typed here, not by typing.cast below, which is a call of 50 ns.
        self._encode: _Encode = orjson.dumps
        self._decode: Callable[[str | bytes], Json] = orjson.loads
        self._options = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

    def dumps(self, obj: object, /) -> bytes:
        """Encode `obj`.

        Raises:
            TypeError: Something in it cannot be encoded without loss.
            ValueError: The same, but raised by a pydantic model or Python's json.
        """
        # marshal takes exactly the types that JSON has (and a few that orjson then refuses), so it
        # finds in C what orjson would change without notice: 1.6 us for 1 KB, with_marks takes 7.5.
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
            ValueError: It is not JSON, or has a mark of an unknown type.
        """
        try:
            # No startswith, and str comes later: 0.05 us instead of 0.1.
            start = data[0]
            if start == _SPACE and data[1] == _TAB:
                return self._decode(data)
            if start == _TAB and data[1] == _SPACE:
                return restore(self._decode(data))
            if isinstance(data, str):
                data = data.encode()
            # orjson reads an integer beyond 64 bits as a float. The search takes 12 us for 1 KB,
            # looking for any 19 digits in a row 1.
            digits_as_zeros = data.translate(_DIGITS_AS_ZEROS)
            if _19_ZEROS not in digits_as_zeros or not _BEYOND_64_BITS.search(data):
                value = self._decode(data)
                return restore(value) if _MARK in data else value
        except (ValueError, TypeError, LookupError, RecursionError):
            # NaN, Infinity and lone surrogates, which Python's json writes; marks of an unusual
            # form; and what is not JSON at all, for which kombu raises the error.
            pass
        loaded: object = kombu_json.loads(data)
        return loaded

    def _dumps_with_marks(self, obj: object) -> bytes:
        prepared = with_marks(obj)
        try:
            return _MARKED_JSON + self._encode(prepared, None, self._options)
        except TypeError:
            # Integers beyond 64 bits and lone surrogates are beyond orjson, not beyond JSON.
            return _dumps_by_json(prepared)


def _dumps_by_json(prepared: object) -> bytes:
    text = json.dumps(prepared, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if _SURROGATE_PAIR.search(text):
        raise TypeError(
            "a str has a pair of surrogates, which would come back as one character: it was "
            "decoded wrongly. Repair it: text.encode('utf-16', 'surrogatepass').decode('utf-16')."
        )
    # A lone surrogate becomes \udxxx: the escape of Python is that of JSON as well.
    return text.encode("utf-8", "backslashreplace")


# The stubs of marshal allow only what it takes; here it is called to find out whether it does.
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
    # Other processes may have orjson, and send the mark that only it writes.
    register_float_mark()
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
