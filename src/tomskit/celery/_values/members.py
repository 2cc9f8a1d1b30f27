"""Members of enums and Literals, where the wire has another form of their values.

pydantic finds a member by its value. JSON has a list where that is a tuple, and text for every key
of a dict.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from pydantic_core import core_schema

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._internals.pydantic_core import Node, is_node, items_of
from tomskit.celery._values.wire import NO_WIRE_FORM, to_wire

__all__ = ("accept_wire_forms",)

_Forms: TypeAlias = list[tuple[object, object]]
"""Forms on the wire, and the members for which they stand."""


def accept_wire_forms(part: object, *, is_key: bool = False) -> None:
    """Let a schema take the wire form of a member for the member, everywhere in it.

    Args:
        part: The schema or a part of it. It is changed in place, with the schemas of models in it,
            so it has to be a copy.
        is_key: Whether it is that of the keys of a dict.
    """
    for item in items_of(part):
        accept_wire_forms(item, is_key=is_key)
    if not is_node(part):
        return
    forms = _forms_of(part, is_key=is_key)
    if forms:
        _put_in_front(_finder(forms), part)
        return
    for key, inner in internals.named_children_of(part):
        accept_wire_forms(inner, is_key=is_key or key == internals.KEYS)
    for tag, choice in internals.choices_by_tag(part).items():
        form = _form_of(tag, is_key=False)
        if form is not tag and not isinstance(form, (list, dict)):
            internals.add_choice(part, form, choice)


def _forms_of(node: Node, *, is_key: bool) -> _Forms:
    """The forms that pydantic does not take for a member by itself."""
    if internals.is_of_type(node, internals.ENUM):
        members = items_of(node.get(internals.MEMBERS))
        values: list[object] = [one.value for one in members if isinstance(one, Enum)]
    elif internals.is_of_type(node, internals.LITERAL):
        members = items_of(node.get(internals.EXPECTED))
        values = [*members]
    else:
        return []
    known: list[tuple[type, object]] = [(type(value), value) for value in values]
    forms = [(_form_of(one, is_key=is_key), one) for one in members]
    return [(form, one) for form, one in forms if (type(form), form) not in known]


def _form_of(member: object, *, is_key: bool) -> object:
    try:
        form = to_wire({member: None} if is_key else member)
    except NO_WIRE_FORM:
        # It is refused where it is sent.
        return member
    return next(iter(form)) if is_key and is_node(form) else form


def _finder(forms: _Forms) -> Callable[[object], object]:
    def find(value: object) -> object:
        for form, member in forms:
            if type(form) is type(value) and form == value:
                return member
        return value

    return find


def _put_in_front(function: Callable[[object], object], node: Node) -> None:
    # In place, because the node that holds it is not known here.
    wrapper = core_schema.no_info_before_validator_function(function, internals.as_schema({**node}))
    node.clear()
    node.update({**wrapper})
