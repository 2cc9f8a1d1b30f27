"""What tests of other packages' internals assert: a name is there, and has these parameters."""

import inspect
from typing import Any

__all__ = ("assert_accepts", "assert_has", "assert_signature", "untyped")


def untyped(value: object) -> Any:
    """Something with names that its types do not know."""
    return value


def assert_has(owner: Any, *names: str) -> None:
    """Fail with the names that `owner`, a class, a module or an object, does not have."""
    missing = [name for name in names if not hasattr(owner, name)]
    assert not missing, f"{_name_of(owner)} has no {', '.join(missing)} any more"


def assert_signature(owner: Any, name: str, expected: str) -> None:
    """Fail where a function or method has other parameters than those, annotations left out."""
    assert_has(owner, name)
    found = inspect.signature(getattr(owner, name))
    plain = found.replace(
        parameters=[
            one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values()
        ],
        return_annotation=inspect.Signature.empty,
    )
    assert str(plain) == expected, f"{_name_of(owner)}.{name} has other parameters"


def assert_accepts(owner: Any, name: str, *args: object, **kwargs: object) -> None:
    """Fail where a function or method cannot be called like this."""
    assert_has(owner, name)
    try:
        inspect.signature(getattr(owner, name)).bind(*args, **kwargs)
    except TypeError as exc:
        raise AssertionError(f"{_name_of(owner)}.{name}: {exc}") from None


def _name_of(owner: Any) -> str:
    return str(getattr(owner, "__qualname__", None) or getattr(owner, "__name__", None) or owner)
