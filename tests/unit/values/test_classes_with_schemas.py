"""Classes of the application, or of other packages, that tell pydantic how they are written and read."""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from typing_extensions import override

from tests.support.calling import Maker, delay
from tomskit.errors import TaskArgumentsError


class Code:
    """A text, as ULIDs, colours and the ids of databases are."""

    def __init__(self, text: str) -> None:
        self.text = text

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and other.text == self.text

    @override
    def __hash__(self) -> int:
        return hash(self.text)

    @override
    def __repr__(self) -> str:
        return f"Code({self.text!r})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda code: code.text),
        )


class Broken(Code):
    @classmethod
    @override
    def __get_pydantic_core_schema__(
        cls, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls, serialization=core_schema.plain_serializer_function_ser_schema(lambda _: 1 / 0)
        )


class Article(BaseModel):
    code: Code
    others: set[Code] = set()


VALUES: Final[tuple[tuple[object, object], ...]] = (
    (Code, Code("a")),
    (Code | None, Code("a")),
    (list[Code], [Code("a"), Code("b")]),
    (frozenset[Code], frozenset({Code("a")})),
    (dict[Code, Code], {Code("a"): Code("b")}),
    (Article, Article(code=Code("a"), others={Code("b")})),
    (dict[str, list[Article]], {"x": [Article(code=Code("a"))]}),
)


@pytest.mark.parametrize(("annotation", "value"), VALUES)
def test_they_arrive(make: Maker, annotation: object, value: object) -> None:
    delay(make.taking(annotation), value)

    assert make.received == [value]
    assert make.returning(annotation, value).delay().get() == value


def test_under_any_they_are_refused(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError, match=r"Code\('a'\) .* would arrive as 'a' \(str\)"):
        delay(make.taking(Any), Code("a"))


def test_one_that_cannot_be_written_is_refused_with_the_reason(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError, match=r"Broken has no form in JSON.*division by zero"):
        delay(make.taking(Broken), Broken("a"))
