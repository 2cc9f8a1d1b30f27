"""The wire form: every serializer brings it back as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from pydantic import BaseModel

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


@pytest.mark.parametrize(
    ("annotation", "made"),
    [
        (Tree, model_in_itself),
        (Node, dataclass_in_itself),
        (list[Any], list_in_itself),
        (list, list_in_itself),
        (Any, list_in_itself),
        (Any, deep_list),
        (Any, very_deep_list),
    ],
)
def test_what_is_in_itself_or_too_deep_is_refused(
    make: Maker, annotation: object, made: Callable[[], object]
) -> None:
    task = make.taking(annotation)

    with pytest.raises(TaskArgumentsError, match=task.name):
        delay(task, made())


def test_a_result_within_itself_fails_the_task(make: Maker) -> None:
    result = make.returning(Tree, model_in_itself()).delay()

    assert isinstance(result.result, TaskResultError)
