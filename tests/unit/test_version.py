"""The version has one source."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import cast

import tomskit

ROOT = Path(__file__).parents[2]


def test_the_version_of_the_package_is_the_one_that_is_installed() -> None:
    assert tomskit.__version__ == version("tomskit")


def test_pyproject_has_no_version_of_its_own() -> None:
    project = cast(
        "dict[str, dict[str, object]]", tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    )["project"]

    assert "version" not in project
    assert project["dynamic"] == ["version"]


def test_the_changelog_names_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")

    assert re.search(rf"^## {re.escape(tomskit.__version__)}\b", changelog, re.MULTILINE)
