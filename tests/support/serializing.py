"""Messages through kombu's serializers."""

from datetime import datetime
from decimal import Decimal
from typing import Final, cast

from kombu import serialization
from kombu.utils import json as kombu_json

SERIALIZERS: Final = ("json", "orjson")


def travelled(value: object, serializer: str) -> object:
    content_type, encoding, payload = serialization.dumps(value, serializer)
    return cast(
        "object", serialization.loads(payload, content_type, encoding, accept=[content_type])
    )


def dumps(value: object) -> str | bytes:
    content_type, encoding, payload = serialization.dumps(value, "orjson")
    assert (content_type, encoding) == ("application/json", "utf-8")
    return payload


def loads(data: str | bytes | bytearray | memoryview) -> object:
    # The stubs know str and bytes only; transports hand out buffers as well.
    return cast(
        "object", serialization.loads(cast("bytes", data), "application/json", "utf-8", force=True)
    )


def round_trip(value: object) -> object:
    return loads(dumps(value))


def read_by_kombu(data: str | bytes) -> object:
    return cast("object", kombu_json.loads(data))


def written_by_kombu(value: object) -> bytes:
    return kombu_json.dumps(value).encode()


def same_but_tuples(one: object, other: object) -> bool:
    """Equal in value and in type, everywhere inside; a tuple counts as a list."""
    if isinstance(one, (list, tuple)):
        items = cast("list[object]", one)
        others = cast("list[object]", other)
        return (
            type(other) is list
            and len(items) == len(others)
            and all(map(same_but_tuples, items, others))
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        pairs = cast("dict[object, object]", one)
        other_pairs = cast("dict[object, object]", other)
        return len(pairs) == len(other_pairs) and all(
            same_but_tuples(*keys) and same_but_tuples(pairs[keys[0]], other_pairs[keys[1]])
            for keys in zip(pairs, other_pairs, strict=True)
        )
    if isinstance(one, (float, Decimal)):
        # By text, which tells the zeros apart and makes NaN itself.
        return repr(one) == repr(other)
    if isinstance(one, datetime):
        assert isinstance(other, datetime)
        return (one, one.utcoffset()) == (other, other.utcoffset())
    return one == other
