"""The "orjson" serializer, as Celery meets it: through kombu, and with the same JSON."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import cast
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kombu import serialization
from kombu.exceptions import DecodeError, EncodeError
from kombu.utils import json as kombu_json

from tests.support.json_strategies import SCALARS, TAGGED, TEXT, VALUES, nested
from tests.support.serializing import dumps, loads, read_by_kombu, round_trip, written_by_kombu
from tests.support.serializing import same_but_tuples as same
from tomskit.celery.serializers import (
    OrjsonSerializer,
    register_orjson_serializer,
    register_serializer,
)

LARGEST = 2**64 - 1
SMALLEST = -(2**63)
NAIVE = datetime(2026, 1, 2, 3, 4, 5, 6)  # noqa: DTZ001 (naive ones travel as well)


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    assert register_orjson_serializer()


# The same JSON as kombu's


@given(VALUES)
@example([1, -0.0, 1e400, {"a": (math.nan, b"\xff")}])
def test_kombu_reads_what_we_write_as_we_do(value: object) -> None:
    try:
        data = dumps(value)
    except EncodeError:
        return
    json.loads(data, parse_constant=pytest.fail)
    assert same(loads(data), read_by_kombu(data))


@given(nested(SCALARS, st.one_of(TEXT, st.integers(), st.floats(), st.none())))
@example([math.nan, -math.inf, 2**64, -(2**63) - 1, "\ud800"])
@example(["\ud83d\ude00", 1e16, 5e-324, 1.7976931348623157e308])
def test_we_read_what_kombu_writes_as_kombu_does(value: object) -> None:
    try:
        data = written_by_kombu(value)
        expected = read_by_kombu(data)
    except (ValueError, TypeError, KeyError, AttributeError):
        return  # The value looks like a mark.
    assert same(expected, loads(data))
    assert same(expected, loads(data.decode()))


@given(TAGGED)
def test_marks_in_any_order_and_with_white_space_are_read(value: object) -> None:
    mark = cast("dict[str, object] | float", json.loads(kombu_json.dumps(value)))
    if isinstance(mark, dict):
        text = json.dumps({"__value__": mark["__value__"], "__type__": mark["__type__"]}, indent=1)
        assert same(read_by_kombu(text), loads(text))


@pytest.mark.parametrize(
    "text",
    [
        '{"__type__": "uuid", "__value__": {"hex": "{12345678-1234-5678-1234-567812345678}"}}',
        '{"__type__": "uuid", "__value__": {"hex": "0x345678123456781234567812345678"}}',
        '{"__type__": "uuid", "__value__": {"int": 5}}',
        '{"__type__": "uuid", "__value__": {"hex": "12345678123456781234567812345678", "version": 4}}',
        '{"__type__": "date", "__value__": "2026-01-02T03:04:05"}',
        '{"__type__": "decimal", "__value__": 5}',
        '{"__type__": "base64", "__value__": "/w=="}',
        '{"__type__": "float", "__value__": "nan"}',
        '{"a": 1, "a": 2}',
        "1e400",
        "-0",
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        "[" * 300 + "]" * 300,
        '[{"__type__": "bytes", "__value__": "x"}, ' * 300 + "1" + "]" * 300,
    ],
)
def test_unusual_json_is_read_as_kombu_reads_it(text: str) -> None:
    assert same(read_by_kombu(text), loads(text))
    assert same(read_by_kombu(text), loads(text.encode()))


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b" ",
        b"\t",
        b"[1]]",
        b'"\xed\xa0\x80"',
        b"\xff",
        "\ufeff1",
        "\ud800",
        b'{"__type__": "nobody", "__value__": 1}',
        b'{"__type__": "uuid", "__value__": 1}',
        b'{"__type__": "uuid", "__value__": {"hex": 1}}',
        b'{"__type__": "datetime", "__value__": "yesterday"}',
        b'{"__type__": "datetime", "__value__": {"a": 1}}',
        b'{"__type__": [], "__value__": 1}',
    ],
    ids=repr,
)
def test_what_kombu_cannot_read_is_a_decode_error(data: str | bytes) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        read_by_kombu(data)
    with pytest.raises(DecodeError):
        loads(data)


@pytest.mark.parametrize("data", [b"", "", b" \t", b"\t "])
def test_nothing_is_no_json(data: str | bytes) -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        OrjsonSerializer().loads(data)


@pytest.mark.parametrize("value", [[1, "a"], [UUID(int=1)], [2**64]])
def test_buffers_and_text_are_read_as_bytes_are(value: object) -> None:
    data = dumps(value)
    assert isinstance(data, bytes)
    for form in (bytearray(data), memoryview(data), data.decode()):
        assert same(value, loads(form))


def test_the_class_needs_no_registration() -> None:
    serializer = OrjsonSerializer()
    assert serializer.loads(serializer.dumps([1, math.inf, 2**64])) == [1, math.inf, 2**64]


# Registration


def test_a_serializer_of_ones_own_is_registered_by_shape() -> None:
    class Reversed:
        name = "test-reversed"
        content_type = "application/x-test-reversed"
        content_encoding = "utf-8"

        def dumps(self, obj: object) -> str:
            return json.dumps(obj)[::-1]

        def loads(self, data: str | bytes) -> object:
            return cast("object", json.loads(data[::-1]))

    register_serializer(Reversed())
    try:
        content_type, encoding, payload = serialization.dumps([1, 23], "test-reversed")
        loaded: object = serialization.loads(
            cast("bytes", memoryview(payload.encode())),
            content_type,
            encoding,
            force=True,
        )
    finally:
        serialization.unregister("test-reversed")

    assert payload == "]32 ,1["
    assert loaded == [1, 23]


class TestWithoutOrjson:
    @pytest.fixture(autouse=True)
    def _without_orjson(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setitem(cast("Mapping[str, object]", sys.modules), "orjson", None)
            yield
        register_orjson_serializer()

    def test_one_warning_says_so(self) -> None:
        with pytest.warns(RuntimeWarning, match="pip install orjson") as caught:
            assert not register_orjson_serializer()
        assert len(caught) == 1
        assert caught[0].filename == __file__

    @pytest.mark.filterwarnings("ignore:orjson cannot be imported")
    def test_orjson_is_another_name_for_json(self) -> None:
        with_orjson = b'\t [{"__type__":"float","__value__":"inf"},1]'
        register_orjson_serializer()
        value = [NAIVE, {"id": UUID(int=1)}]

        assert dumps(value) == kombu_json.dumps(value)
        assert round_trip(value) == value
        assert loads(with_orjson) == [math.inf, 1]

    def test_the_class_itself_says_what_is_missing(self) -> None:
        with pytest.raises(ImportError, match="orjson"):
            OrjsonSerializer()


def test_the_module_imports_where_orjson_is_missing() -> None:
    program = "import sys; sys.modules['orjson'] = None; import tomskit.celery.serializers"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
