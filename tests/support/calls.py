"""hypothesis strategies for functions, with arguments that fit them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

from hypothesis import strategies as st

from tests.support.annotations import PLAIN_KINDS, Kind, kinds, lists_of


class Call(NamedTuple):
    """A coroutine function, and arguments that fit it."""

    function: Callable[..., object]
    bind: bool
    args: tuple[object, ...]
    kwargs: dict[str, object]

    @property
    def signature(self) -> inspect.Signature:
        """Of the function, as callers see it."""
        signature = inspect.signature(self.function)
        parameters = [*signature.parameters.values()]
        return signature.replace(parameters=parameters[1 if self.bind else 0 :])


# Some are names of what an implementation may use itself.
_NAMES: Final = ("a", "b_c", "type", "int", "_hidden", "args", "self_", "cls", "grüße", "schema")


def calls() -> st.SearchStrategy[Call]:
    """Functions with parameters of every sort, and what they may be called with."""
    return _calls(kinds()) | _calls(st.sampled_from(PLAIN_KINDS))


@st.composite
def _calls(draw: st.DrawFn, annotations: st.SearchStrategy[Kind]) -> Call:
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=4))
    sorts = sorted(draw(st.sampled_from(_SORTS)) for _ in names)
    parameters: list[inspect.Parameter] = []
    args: list[object] = []
    kwargs: dict[str, object] = {}
    has_default = by_name = False
    for name, sort in zip(names, sorts, strict=True):
        kind = draw(annotations)
        positional = sort is not inspect.Parameter.KEYWORD_ONLY
        has_default = draw(st.booleans()) or (has_default and positional)
        default = draw(kind.values) if has_default else inspect.Parameter.empty
        parameters.append(
            inspect.Parameter(name, sort, default=default, annotation=kind.annotation)
        )
        if has_default and draw(st.booleans()):
            # Not given, so what follows cannot be given by position.
            by_name = True
            continue
        only_by_position = sort is inspect.Parameter.POSITIONAL_ONLY
        if by_name and only_by_position:
            continue
        by_name = by_name or not positional or (not only_by_position and draw(st.booleans()))
        value = draw(kind.values)
        if by_name:
            kwargs[name] = value
        else:
            args.append(value)
    if draw(st.booleans()):
        kind = draw(annotations)
        rest = inspect.Parameter(
            "rest", inspect.Parameter.VAR_POSITIONAL, annotation=kind.annotation
        )
        parameters.insert(sum(p.kind is not p.KEYWORD_ONLY for p in parameters), rest)
        if len(args) == parameters.index(rest):
            args.extend(draw(lists_of(kind)))
    if draw(st.booleans()):
        kind = draw(annotations)
        parameters.append(
            inspect.Parameter("more", inspect.Parameter.VAR_KEYWORD, annotation=kind.annotation)
        )
        kwargs |= draw(st.dictionaries(st.sampled_from(["x", "y z", "über"]), kind.values))
    bind = draw(st.booleans())
    return Call(_function(parameters, bind=bind), bind, tuple(args), kwargs)


def _function(parameters: Sequence[inspect.Parameter], *, bind: bool) -> Callable[..., object]:
    async def function(*args: object, **kwargs: object) -> None: ...

    by_position_only = any(one.kind is one.POSITIONAL_ONLY for one in parameters)
    sort = _SORTS[0] if by_position_only else _SORTS[1]
    first = [inspect.Parameter("self", sort)] if bind else []
    made = cast("Any", function)
    made.__signature__ = inspect.Signature([*first, *parameters])
    made.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


_SORTS: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)
