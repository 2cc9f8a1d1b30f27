"""The table of converters: what both forms that it makes have in common."""

from collections.abc import Callable

import pytest
from typing_extensions import override

from tomskit.celery._values.conversion import (
    Converter,
    ConverterTable,
    first_by_base,
    unconverted,
)
from tomskit.celery._values.marks import with_marks
from tomskit.celery._values.wire import to_wire

in_both_forms = pytest.mark.parametrize("convert", [to_wire, with_marks])


class Twin(str):
    """Text that a dict takes for another key than the same text as str."""

    __slots__ = ()

    @override
    def __hash__(self) -> int:
        return 7


def table(find: Callable[[type], Converter]) -> ConverterTable:
    return ConverterTable({float: round}, unchanged=frozenset({str, int}), key=str, find=find)


@in_both_forms
@pytest.mark.parametrize("nested", [False, True])
def test_keys_that_become_the_same_text_are_refused(
    convert: Callable[[object], object], nested: bool
) -> None:
    pairs = {"a": 1, Twin("a"): 2}

    with pytest.raises(TypeError, match="two keys of a dict are the same text in JSON"):
        convert([pairs] if nested else pairs)


@in_both_forms
@pytest.mark.parametrize("nested", [False, True])
def test_a_dict_that_looks_like_a_mark_is_refused(
    convert: Callable[[object], object], nested: bool
) -> None:
    pairs = {"__value__": 1, "__type__": "date"}

    with pytest.raises(TypeError, match=r"'__type__' and '__value__'.*use other keys"):
        convert({"outer": pairs} if nested else pairs)


@in_both_forms
def test_a_dict_with_a_third_key_is_not_taken_for_a_mark(
    convert: Callable[[object], object],
) -> None:
    pairs = {"__value__": 1, "__type__": "date", "more": None}

    assert convert(pairs) == pairs


@in_both_forms
def test_lists_and_dicts_are_copied(convert: Callable[[object], object]) -> None:
    inner: list[object] = [1]
    converted = convert({"inner": inner})

    inner.append(2)

    assert converted == {"inner": [1]}


def test_the_converter_of_another_class_is_asked_for_once() -> None:
    asked: list[type] = []

    def find(kind: type) -> Converter:
        asked.append(kind)
        return str

    convert = table(find).convert

    assert convert([1j, (1j, {"a": 1j}), 2.0, True]) == ["1j", ["1j", {"a": "1j"}], 2, "True"]
    assert asked == [complex, bool]


def test_the_first_base_decides() -> None:
    by_base: list[tuple[type, Converter]] = [(bool, repr), (int, str), (object, unconverted)]

    assert first_by_base(bool, by_base, len) is repr
    assert first_by_base(int, by_base, len) is str
    assert first_by_base(str, by_base, len) is unconverted
    assert first_by_base(str, by_base[:2], len) is len
