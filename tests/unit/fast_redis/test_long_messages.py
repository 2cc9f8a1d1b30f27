"""Long messages are read as short ones are, in short steps."""

import json
from base64 import b64encode, encodebytes
from binascii import a2b_base64

import pytest

from tomskit.celery.fast_redis.long_messages import LONG, any_part, decode_base64, split_body
from tomskit.celery.fast_redis.payloads import decoded_json

TEXT = "ü" * LONG


@pytest.mark.parametrize("spaces", [True, False], ids=["spaces", "no spaces"])
@pytest.mark.parametrize("body", ["", "abc=", TEXT])
def test_a_message_is_split_at_its_body(body: str, spaces: bool) -> None:
    message = {"body": body, "properties": {"text": '"body": "x'}}
    separators = None if spaces else (",", ":")
    raw = json.dumps(message, separators=separators, ensure_ascii=False).encode()

    parts = split_body(raw)

    assert parts is not None
    assert {**json.loads(parts[0]), "body": parts[1]} == message


@pytest.mark.parametrize(
    "raw",
    [
        b'{"properties": {}, "body": "x"}',
        b'{"body": "\\""}',
        b'{"body": "\\u00e4"}',
        b'{"body": "x',
        b'{"body": "\xff"}',
        b'{"body": {}}',
        b"",
    ],
)
def test_it_is_not_split_where_that_is_not_clear(raw: bytes) -> None:
    assert split_body(raw) is None


@pytest.mark.parametrize("count", [0, 1, 2, 3, LONG, LONG + 1, LONG + 2, 2 * LONG])
def test_base64_is_decoded_as_in_one_step(count: int) -> None:
    data = bytes(range(256)) * (count // 256) + bytes(range(count % 256))

    assert decode_base64(b64encode(data).decode()) == data


@pytest.mark.parametrize(
    "text",
    [
        encodebytes(b"some text" * LONG).decode(),
        "YWI=" + "YWJj" * LONG,
        "YWJj" * LONG + "\n",
        "\n" * 4 + "YWJj" * LONG,
    ],
    ids=["lines", "an end in the middle", "a line", "empty lines"],
)
def test_base64_of_other_kinds_is_decoded_as_python_does(text: str) -> None:
    assert decode_base64(text) == a2b_base64(text)


def test_what_is_no_base64_raises() -> None:
    with pytest.raises(ValueError, match="base64"):
        decode_base64("YWJj" * LONG + "Y")


@pytest.mark.parametrize("where", [0, 1 << 18, (1 << 18) - 3, (1 << 18) + 1, 2 * LONG])
def test_what_lies_across_two_parts_is_found(where: int) -> None:
    raw = b"x" * where + b"needle" + b"x" * 100

    assert any_part(raw, 6, lambda part: b"needle" in part)
    assert not any_part(raw.replace(b"needle", b"noodle"), 6, lambda part: b"needle" in part)


@pytest.mark.parametrize("text", ['"__type__"', "9" * 19, "9" * 30])
@pytest.mark.parametrize("before", [LONG, (1 << 20) - 12, (1 << 20) - 19])
def test_what_kombu_reads_otherwise_is_left_to_it(text: str, before: int) -> None:
    raw = b'["%s", %s]' % (b"x" * before, text.encode())

    assert decoded_json(raw) is None
    assert decoded_json(raw.replace(text.encode(), b"12")) == ["x" * before, 12]
