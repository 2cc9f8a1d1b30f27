"""Long messages, read in short steps: the thread that does it lets others run in between.

Each call into C keeps all other threads waiting. For a message of 30 MB these were ten calls of 20 to 70 ms; here they
take a millisecond each, but for that of the JSON reader itself.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable
from typing import Final

__all__ = ("LONG", "any_part", "decode_base64", "split_body")

LONG: Final = 1_000_000
"""Messages of more bytes are read in this way."""

_BEGINNINGS: Final = (b'{"body": "', b'{"body":"')
_STEP: Final = 1 << 18
"""How much is looked at in one call; a multiple of four, as base64 has four letters for three bytes."""


def split_body(raw: bytes) -> tuple[bytes, str] | None:
    """A message without its body, and the body; None where it is not clear at one look.

    Args:
        raw: A JSON object.

    Returns:
        The same with an empty body, and what its body says.
    """
    for beginning in _BEGINNINGS:
        if raw.startswith(beginning):
            begin = len(beginning)
            close = raw.find(b'"', begin)
            if close < 0 or raw.find(b"\\", begin, close) >= 0:
                return None
            try:
                body = raw[begin:close].decode()
            except UnicodeDecodeError:
                return None
            return beginning + raw[close:], body
    return None


def decode_base64(text: str) -> bytes:
    """What base64 says.

    Raises:
        ValueError: It is none.
    """
    if len(text) <= LONG or "=" in text[:-2]:
        return a2b_base64(text)
    try:
        return b"".join(
            [a2b_base64(text[begin : begin + _STEP]) for begin in range(0, len(text), _STEP)]
        )
    except ValueError:
        # There are line breaks in it, for instance.
        return a2b_base64(text)


def any_part(raw: bytes, overlap: int, is_found: Callable[[bytes], bool]) -> bool:
    """Whether something is found in any part of a long text.

    Args:
        raw: The text.
        overlap: How many bytes of the next part belong to each.
        is_found: Looks for it in a part.
    """
    return any(
        is_found(raw[begin : begin + _STEP + overlap]) for begin in range(0, len(raw), _STEP)
    )
