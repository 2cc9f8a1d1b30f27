"""What tomskit relies on in pydantic beyond what its types allow."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError
from pydantic_core import InitErrorDetails
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, InitSettingsSource

from tomskit import TomsKitBaseSettings
from tomskit._internals.pydantic import custom_error, set_variables, variables_of


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


def test_the_variables_of_a_source_can_be_read_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``EnvSettingsSource.env_vars``."""

    class Two(TomsKitBaseSettings):
        ONE: str = ""
        OTHER: str = ""

    monkeypatch.setenv("ONE", "environment")
    (tmp_path / "file").write_text("ONE=file\nMORE=x\n")
    environment = EnvSettingsSource(Two)
    file = DotEnvSettingsSource(Two, env_file=tmp_path / "file")
    assert variables_of(environment)["ONE"] == "environment"
    assert variables_of(file) == {"ONE": "file", "MORE": "x"}
    assert variables_of(InitSettingsSource(Two, {"ONE": "x"})) == {}
    for source in (environment, file):
        set_variables(source, {"OTHER": "replaced"})
        assert source() == {"OTHER": "replaced"}
