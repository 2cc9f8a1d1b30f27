"""The maps of the rooms, in the docstrings of their packages, name every module that there is."""

import ast
import re
from pathlib import Path

import pytest

import tomskit

ROOMS = sorted((Path(tomskit.__file__).parent / "celery").glob("*/__init__.py"))
ENTRY = re.compile(r"^    (\w+)  +\S", re.MULTILINE)


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.parent.name)
def test_the_map_of_a_room_names_its_modules(room: Path) -> None:
    docstring = ast.get_docstring(ast.parse(room.read_text(encoding="utf-8")), clean=False) or ""
    modules = {path.stem for path in room.parent.glob("*.py")} - {"__init__"}
    assert sorted(ENTRY.findall(docstring)) == sorted(modules)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/where-is-what.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    root = Path(__file__).parents[2]
    text = (root / page).read_text(encoding="utf-8")
    source = root / "src" / "tomskit"
    for name in re.findall(r"`((?:celery/)?[\w/]+\.py)`", text):
        assert (source / name).exists() or (source / "celery" / name).exists(), name
