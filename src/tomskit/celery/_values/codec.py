"""Annotations made true: the function gets, and its caller gets back, what they say.

Built with pydantic at a task's first use: to import 500 tasks must not take a second.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Final

from typing_extensions import Format, get_annotations

from tomskit.celery._values.parameters import Arguments, Parameters, parameters_of
from tomskit.celery._values.plain import never_plain, plain_check
from tomskit.celery._values.results import Result
from tomskit.celery._values.wire import to_whole_wire
from tomskit.errors import ConfigurationError, TaskArgumentsError
from tomskit.lazily import cached_property

__all__ = ("Codec",)


class Codec:
    """Converts the arguments and the result of one function.

    Where a task is called, values become their wire form and have to be what a type checker would
    accept. Where it runs, they are made of whatever JSON holds, so plain Celery clients may send
    "2024-01-01" for a date.

    Args:
        function: The coroutine function. Without any annotation, nothing is converted.
        name: The task's name, for messages.
        bind: Whether the first parameter is the task.

    Attributes:
        is_resolved: Whether the annotations that are needed have been resolved.
    """

    def __init__(self, function: Callable[..., object], *, name: str, bind: bool) -> None:
        self._function = function
        self._name = name
        self._bind = bind
        self.is_resolved: bool = False
        # Whether a call's arguments fit and need no conversion. Never, until the annotations are
        # resolved. Not behind a method of Parameters: two calls less are a tenth of the time that
        # a small call takes all the way.
        self._are_plain: Callable[..., bool] = never_plain

    def prepare(self, *, result: bool) -> None:
        """Resolve the annotations.

        Args:
            result: Whether that of the result is needed.

        Raises:
            ConfigurationError: One cannot be resolved, or is of a type that cannot be sent.
        """
        _ = self._parameters
        if result:
            _ = self._result
        self.is_resolved = True

    def check(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Arguments:
        """The wire form of the arguments of a call.

        Raises:
            TaskArgumentsError: They do not fit, or would arrive as something else.
        """
        try:
            if self._are_plain(*args, **kwargs):
                return args, kwargs
        except TypeError:
            # Too many or too few of them: the error is made below.
            pass
        parameters = self._parameters
        if parameters is None:
            return args, kwargs
        return parameters.check(args, kwargs, parameters.complete)

    def check_partial(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Arguments:
        """The wire form of a call's arguments without the first, which another task will return.

        Raises:
            TaskArgumentsError: They do not fit, or would arrive as something else.
        """
        parameters = self._parameters
        if parameters is None:
            return args, kwargs
        wire, wire_kwargs = parameters.check((None, *args), kwargs, parameters.without_first)
        return wire[1:], wire_kwargs

    def check_signature(
        self, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[Arguments, bool]:
        """The wire form of a signature's arguments, and whether no others have to be added.

        Raises:
            TaskArgumentsError: They do not fit, neither as all arguments nor as all but the first.
        """
        if self._parameters is None:
            return (args, kwargs), not self.misses_some(args, kwargs)
        try:
            return self.check(args, kwargs), True
        except TaskArgumentsError as exc:
            of_all = exc
        try:
            return self.check_partial(args, kwargs), False
        except TaskArgumentsError as exc:
            raise (exc if self.misses_some(args, kwargs) else of_all) from None

    def check_follower(self, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Check the wire form of arguments that another task's result will come in front of.

        Raises:
            TaskArgumentsError: They do not fit.
        """
        parameters = self._parameters
        if parameters is not None:
            parameters.check_follower(args, kwargs)

    def misses_some(self, args: Sequence[object], kwargs: dict[str, object]) -> bool:
        """Whether a call with these arguments, in wire form, needs more of them."""
        signature = inspect.signature(self._function)
        task = [None] if self._bind else []
        try:
            signature.bind_partial(*task, *args, **kwargs)
        except TypeError:
            # There are too many of them, or unexpected ones.
            return False
        try:
            signature.bind(*task, *args, **kwargs)
        except TypeError:
            return True
        return False

    def check_first(self, value: object) -> object:
        """The wire form of the first argument that `check_partial` left out.

        Raises:
            TaskArgumentsError: It does not fit, or would arrive as something else.
        """
        parameters = self._parameters
        if parameters is None:
            return value
        return parameters.check((value,), {}, parameters.incomplete)[0][0]

    def encode(self, args: Sequence[object], kwargs: dict[str, object]) -> Arguments:
        """The wire form of arguments some of which may be in wire form already.

        Raises:
            TaskArgumentsError: They do not fit.
        """
        parameters = self._parameters
        if parameters is None:
            return tuple(args), dict(kwargs)
        try:
            return parameters.check(tuple(args), kwargs, parameters.complete)
        except TaskArgumentsError:
            # Some are in wire form.
            pass
        # Nothing compares what arrives with what was sent: the whole of it is sent.
        wire = parameters.to_wire(args, kwargs, convert=to_whole_wire)
        parameters.load(*wire)
        return wire

    def encode_some(self, args: Sequence[object], kwargs: dict[str, object]) -> Arguments:
        """As `encode`, for a call of which more arguments come later: all are checked then.

        Raises:
            TaskArgumentsError: A value has no wire form.
        """
        parameters = self._parameters
        if parameters is None:
            return tuple(args), dict(kwargs)
        return parameters.to_wire(args, kwargs, convert=to_whole_wire)

    def load(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Arguments:
        """The arguments for the function, from the wire.

        Raises:
            TaskArgumentsError: They do not fit.
        """
        try:
            if self._are_plain(*args, **kwargs):
                return args, kwargs
        except TypeError:
            # As in `check`.
            pass
        parameters = self._parameters
        return (args, kwargs) if parameters is None else parameters.load(args, kwargs)

    def dump_result(self, value: object) -> object:
        """The wire form of what the function returned.

        Raises:
            TaskResultError: It does not fit, or would arrive as something else.
        """
        result = self._result
        return value if result is None or type(value) is result.plain else result.dump(value)

    def load_result(self, wire: object) -> object:
        """What the function returned, from the wire.

        Raises:
            TaskResultError: It does not fit.
        """
        result = self._result
        return wire if result is None or type(wire) is result.plain else result.load(wire)

    @cached_property
    def _hints(self) -> dict[str, object]:
        written: dict[str, object] = {}
        hints: dict[str, object] = {}
        for function in _layers(self._function):
            changed = {
                name: annotation
                for name, annotation in _annotations(function, bind=self._bind).items()
                if name not in written or written[name] != annotation
            }
            written |= changed
            hints |= self._resolved(function, changed)
        return {
            name: hint
            for name, hint in hints.items()
            # Of a decorator's function, which takes whatever the one within takes.
            if not isinstance(hint, (typing.ParamSpecArgs, typing.ParamSpecKwargs))
        }

    def _resolved(
        self, function: Callable[..., object], annotations: dict[str, object]
    ) -> dict[str, object]:
        """Annotations that are text, as what they name where the function is written."""
        enclosing: dict[str, object] = {}
        if getattr(function, "__closure__", None):
            enclosing.update(inspect.getclosurevars(function).nonlocals)
        # Of async def f[T](...), since Python 3.12: annotations that are text name it, too.
        type_parameters: tuple[_TypeParameter, ...] = getattr(function, "__type_params__", ())
        enclosing.update({one.__name__: one for one in type_parameters})
        try:
            annotated = _Annotated(annotations, function)
            return typing.get_type_hints(annotated, localns=enclosing or None, include_extras=True)
        except (NameError, AttributeError, SyntaxError) as exc:
            raise ConfigurationError(
                f"The task {self._name} has an annotation that cannot be resolved ({exc}), and "
                "the worker needs it to convert the values. Import the name at run time too, not "
                "only under TYPE_CHECKING, or define it at the top level of a module."
            ) from None
        except TypeError as exc:
            raise ConfigurationError(
                f"The task {self._name} has an annotation that is not a type: {exc}"
            ) from None

    @cached_property
    def _parameters(self) -> Parameters | None:
        hints = self._hints
        resolved = [
            parameter.replace(annotation=hints.get(parameter.name, parameter.empty))
            for parameter in parameters_of(self._function, bind=self._bind)
        ]
        if resolved and all(one.annotation is one.empty for one in resolved):
            return None
        built = Parameters(self._name, resolved)
        self._are_plain = plain_check(resolved)
        return built

    @cached_property
    def _result(self) -> Result | None:
        annotation = self._hints.get("return", typing.Never)
        return None if annotation in _NO_RESULT else Result(self._name, annotation)


def _layers(function: Callable[..., object]) -> list[Callable[..., object]]:
    """What was written, and around it the decorators' functions that declare a signature."""
    around: list[Callable[..., object]] = []
    # Whatever `stop` returns here is false, so it sees all that wrap another one.
    innermost: Callable[..., object] = inspect.unwrap(function, stop=around.append)
    return [innermost, *(one for one in reversed(around) if hasattr(one, "__signature__"))]


def _annotations(function: Callable[..., object], *, bind: bool) -> dict[str, object]:
    """The annotations of a function as they are written, or as its signature declares them."""
    found: dict[str, object] = {}
    if not hasattr(function, "__wrapped__"):
        # Not evaluated as a whole: from Python 3.14 on, one unknown name would fail them all.
        found.update(get_annotations(function, format=Format.FORWARDREF))
    declared: object = getattr(function, "__signature__", None)
    if isinstance(declared, inspect.Signature):
        given = {name: one.annotation for name, one in declared.parameters.items()}
        given["return"] = declared.return_annotation
        found |= {name: one for name, one in given.items() if one is not declared.empty}
    if bind:
        # The task itself is never converted, and its class may be known to checkers only.
        first = next(iter(inspect.signature(function).parameters.values()), None)
        if first is not None and first.kind is not first.VAR_POSITIONAL:
            found.pop(first.name, None)
    return found


class _TypeParameter(typing.Protocol):
    """A TypeVar, ParamSpec or TypeVarTuple."""

    @property
    def __name__(self) -> str: ...


class _Annotated:
    """Annotations of a function, or some of them, for `typing.get_type_hints`."""

    def __init__(self, annotations: dict[str, object], function: Callable[..., object]) -> None:
        self.__annotations__ = annotations
        self.__globals__ = getattr(function, "__globals__", {})
        self.__type_params__: tuple[object, ...] = getattr(function, "__type_params__", ())


_NO_RESULT: Final[frozenset[object]] = frozenset({typing.Never, typing.NoReturn})
