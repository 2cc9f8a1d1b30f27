"""The wire form: every serializer brings it back as it was."""

from __future__ import annotations

import threading
import time
from _thread import LockType as Lock
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from pydantic import BaseModel, PrivateAttr
from pydantic_core import CoreSchema, core_schema
from typing_extensions import override

from tests.support.annotations import kinds
from tests.support.calling import Maker, delay
from tests.support.examples import examples
from tests.support.sameness import same
from tests.support.serializing import SERIALIZERS, travelled
from tests.support.shop import Node
from tomskit.celery._values.wire import to_wire
from tomskit.errors import TaskArgumentsError, TaskResultError

few = settings(max_examples=examples(80))


@given(kinds().flatmap(lambda kind: kind.values))
@few
def test_the_wire_form_of_a_wire_form_is_itself(value: object) -> None:
    wire = to_wire(value)

    assert same(wire, to_wire(wire))


@given(kinds().flatmap(lambda kind: kind.values))
@few
def test_every_serializer_brings_the_wire_form_back_as_it_was(value: object) -> None:
    wire = to_wire(value)

    for serializer in SERIALIZERS:
        assert same(wire, travelled(wire, serializer))


# -- structures within themselves


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


def test_a_recursive_model_arrives(make: Maker) -> None:
    tree = Tree(value=1, children=[Tree(value=2, children=[Tree(value=3)])])

    delay(make.taking(Tree), tree)

    assert make.received == [tree]


def test_a_wrong_part_of_a_recursive_structure_is_named_by_its_path(make: Maker) -> None:
    node = Node(1.5, Node(cast("float", "heavy")))

    with pytest.raises(TaskArgumentsError, match=r"value\.next\.weight is 'heavy' \(str\)"):
        delay(make.taking(Node), node)


def model_in_itself() -> object:
    tree = Tree(value=1)
    tree.children.append(tree)
    return tree


def dataclass_in_itself() -> object:
    node = Node(1.5)
    node.next = node
    return node


def list_in_itself() -> object:
    items: list[object] = []
    items.append(items)
    return items


def deep_list() -> object:
    items: list[object] = []
    for _ in range(400):
        items = [items]
    return items


def very_deep_list() -> object:
    items: list[object] = []
    for _ in range(5_000):
        items = [items]
    return items


def deep_model() -> object:
    tree = Tree(value=1)
    for _ in range(128):
        tree = Tree(value=1, children=[tree])
    return tree


def deep_dataclass() -> object:
    node = Node(1.5)
    for _ in range(255):
        node = Node(1.5, node)
    return node


def in_itself_below() -> object:
    return [1, [2, {"x": list_in_itself()}]]


IN_ITSELF, TOO_DEEP = "contains itself", "nested more than 255 levels deep"


@pytest.mark.parametrize(
    ("annotation", "made", "message"),
    [
        (Tree, model_in_itself, rf"value\.children\.0 is a Tree: it {IN_ITSELF}"),
        (Node, dataclass_in_itself, rf"value\.next is a Node: it {IN_ITSELF}"),
        (list[Any], list_in_itself, rf"value\.0 is a list: it {IN_ITSELF}"),
        (list, list_in_itself, rf"value\.0 is a list: it {IN_ITSELF}"),
        (Any, list_in_itself, rf"value\.0 is a list: it {IN_ITSELF}"),
        (Any, in_itself_below, rf"value\.1\.1\.x\.0 is a list: it {IN_ITSELF}"),
        (Any, deep_list, rf"value\.0\.0\.0\.0\.\.\.\.\..*is a list: it is {TOO_DEEP}"),
        (Any, very_deep_list, rf"value\.0.* is a list: it is {TOO_DEEP}"),
        (Tree, deep_model, rf"value\.children\.0.* is a Tree: it is {TOO_DEEP}"),
        (Node, deep_dataclass, rf"value\.next\.next.* is a Node: it is {TOO_DEEP}"),
    ],
)
def test_what_is_in_itself_or_too_deep_is_refused(
    make: Maker, annotation: object, made: Callable[[], object], message: str
) -> None:
    task = make.taking(annotation)

    with pytest.raises(TaskArgumentsError, match=rf"{task.name}: {message}"):
        delay(task, made())


@pytest.mark.parametrize("levels", [1, 100, 254])
def test_what_is_less_deep_arrives(make: Maker, levels: int) -> None:
    node = Node(1.5)
    for _ in range(levels):
        node = Node(1.5, node)

    delay(make.taking(Node), node)

    received = make.received[0]
    for _ in range(levels):
        assert isinstance(received, Node)
        received = received.next
    assert received == Node(1.5)


def test_what_is_there_twice_is_not_in_itself(make: Maker) -> None:
    leaf = Tree(value=2)

    delay(make.taking(Tree), Tree(value=1, children=[leaf, leaf]))

    assert make.received == [Tree(value=1, children=[leaf, leaf])]


def test_a_result_within_itself_fails_the_task(make: Maker) -> None:
    result = make.returning(Tree, model_in_itself()).delay()

    assert isinstance(result.result, TaskResultError)
    assert "its result.children.0 is a Tree: it contains itself" in str(result.result)


def test_a_result_that_is_too_deep_fails_the_task(make: Maker) -> None:
    result = make.returning(list[Any], deep_list()).delay()

    assert isinstance(result.result, TaskResultError)
    assert "levels deep" in str(result.result)


# -- private attributes


class Guarded(BaseModel):
    a: int
    _lock: Lock = PrivateAttr(default_factory=threading.Lock)


class Timed(BaseModel):
    a: int
    _since: float = PrivateAttr(default_factory=time.perf_counter)
    _note: str = PrivateAttr(default="same")


@pytest.mark.parametrize(
    ("annotation", "value", "part"),
    [
        (Guarded, Guarded(a=1), r"value\._lock is <unlocked"),
        (Timed, Timed(a=1), r"value\._since is \d"),
        (list[Timed], [Timed(a=1)], r"value\.0\._since is \d"),
        (dict[str, Guarded], {"x": Guarded(a=1)}, r"value\.x\._lock is <unlocked"),
    ],
)
def test_a_private_attribute_that_would_not_arrive_is_named(
    make: Maker, annotation: object, value: object, part: str
) -> None:
    task = make.taking(annotation)

    with pytest.raises(
        TaskArgumentsError, match=f"{part}.*because private attributes are not sent"
    ):
        delay(task, value)


def test_a_value_whose_text_is_the_same_is_not_said_to_arrive_as_itself(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError) as caught:
        delay(make.taking(Timed), Timed(a=1))

    assert "Timed(a=1)" not in str(caught.value)


def test_a_part_that_does_not_equal_its_copy_is_named(make: Maker) -> None:
    class Coin:
        """Without an __eq__."""

        @override
        def __repr__(self) -> str:
            return "Coin()"

        @classmethod
        def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> CoreSchema:
            return core_schema.no_info_plain_validator_function(
                lambda value: value if isinstance(value, cls) else cls(),
                serialization=core_schema.plain_serializer_function_ser_schema(lambda _: 1),
            )

    class Purse(BaseModel):
        coin: Coin

    with pytest.raises(
        TaskArgumentsError, match=r"value\.coin is Coin\(\).*give its class an __eq__"
    ):
        delay(make.taking(Purse), Purse(coin=Coin()))
