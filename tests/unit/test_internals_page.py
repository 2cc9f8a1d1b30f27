"""Every name of other packages that is not public is described, and has a test that names it."""

import ast
import re
from pathlib import Path

import pytest
from scripts import internals

TESTS = Path(__file__).parent
PARTS = internals.parts()
ENTRIES = [(part, entry) for part in PARTS for entry in part.entries]
DUNDER = re.compile(r"__\w+__")


def _test_file(module: Path) -> Path:
    return TESTS / f"test_internals_{module.stem}.py"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.path.stem)
def test_every_module_has_a_test_file(part: internals.Part) -> None:
    assert _test_file(part.path).exists(), f"{part.path.stem}: write {_test_file(part.path).name}"


@pytest.mark.parametrize(("part", "entry"), ENTRIES, ids=lambda value: getattr(value, "text", None))
def test_every_name_is_in_a_test(part: internals.Part, entry: internals.Entry) -> None:
    """A test names what it is about: in its docstring, in a parameter or in its code."""
    text = _test_file(part.path).read_text(encoding="utf-8")
    missing = [name for name in entry.names if not re.search(rf"\b{name}\b", text)]
    assert entry.names, f"{entry.text}: put the name into backquotes"
    assert not missing, f"{_test_file(part.path).name} has no test of {', '.join(missing)}"


@pytest.mark.parametrize(("part", "entry"), ENTRIES, ids=lambda value: getattr(value, "text", None))
def test_every_entry_says_what_happens_without_the_name(
    part: internals.Part, entry: internals.Entry
) -> None:
    assert entry.purpose, f"{part.path.name}: {entry.text}"
    assert entry.effect, f"{part.path.name}: {entry.text} has no line 'When it is missing: ...'"


@pytest.mark.parametrize(
    "path", sorted(internals.SOURCE.rglob("_internals/*.py")), ids=lambda path: path.stem
)
def test_every_private_name_in_the_code_has_an_entry(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    described = ast.get_docstring(tree) or ""
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr[0] == "_" and not DUNDER.match(node.attr)
    }
    missing = sorted(name for name in used if not re.search(rf"\b{name}\b", described))
    assert not missing, f"{path.name} uses {', '.join(missing)}: describe it in its docstring"
