"""What tomskit relies on in pydantic beyond what its types allow."""

from pydantic import Field, ValidationError
from pydantic_core import InitErrorDetails

from tomskit import TomsKitBaseSettings
from tomskit._internals.pydantic import custom_error


def test_an_error_may_have_any_type_and_message() -> None:
    """``PydanticCustomError``."""
    kind, message = "some_type", "{braces} and 100 % stay as they are"
    details = InitErrorDetails(type=custom_error(kind, message), loc=("NAME",), input=None)
    error = ValidationError.from_exception_data("Settings", [details])
    assert [(one["type"], one["msg"]) for one in error.errors()] == [(kind, message)]


def test_fields_come_from_the_last_base_class_to_the_first() -> None:
    class First(TomsKitBaseSettings):
        FIRST: str = Field(default="")

    class Second(TomsKitBaseSettings):
        SECOND: str = Field(default="")

    class Both(Second, First): ...

    assert list(Both.model_fields) == ["FIRST", "SECOND"]
