"""Check the structure of the code: what no linter, type checker or import contract looks at.

* No circle of imports in src. Imports inside functions and under TYPE_CHECKING count; loading a
  module by its name at run time does not.
* No file of src over 400 lines, and none of tests over 600.
* Fewer than 60 calls of ``cast`` in src.
* No test file imports another test file.
* Names of other packages that are not public are imported in the folders called ``_internals`` only.
  (Attributes that are not public are the matter of ruff's SLF001.)

Prints the figures, and for each failure what to do. The exit code is 1 if there is a failure.

Usage: python scripts/check_house.py [FOLDER], a folder that contains src and tests
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

LINES_OF_A_SOURCE_FILE: Final = 400
LINES_OF_A_TEST_FILE: Final = 600
CASTS: Final = 60
INTERNALS: Final = "_internals"


@dataclass(frozen=True)
class File:
    """A file of Python.

    Attributes:
        path: From the checked folder on.
        module: Its name for an import statement.
        lines: How many it has.
        tree: Its syntax tree.
    """

    path: Path
    module: str
    lines: int
    tree: ast.Module

    @property
    def is_face(self) -> bool:
        """Whether it is an ``__init__`` that only imports names, for others to import them here."""
        return self.path.stem == "__init__" and all(map(_hands_on, self.tree.body))


@dataclass(frozen=True)
class Import:
    """An imported module, or a name out of it, and the line of the statement."""

    module: str
    name: str | None
    line: int

    @property
    def text(self) -> str:
        """The module's name, and the name's."""
        return self.module if self.name is None else f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Report:
    """The figures of a folder, and what is wrong with it, both in sentences."""

    figures: list[str]
    failures: list[str]


def main() -> int:
    """Check, print, and return the exit code."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    report = check(root)
    print("\n".join(report.figures))
    for failure in report.failures:
        print(f"error: {failure}")
    return 1 if report.failures else 0


def check(root: Path) -> Report:
    """Check a folder that contains src and tests."""
    source, tests = files(root, "src"), files(root, "tests")
    groups = circles(source)
    casts = {file.path: count for file in source if (count := casts_in(file))}
    total = sum(casts.values())
    figures = [
        _sizes("src", source),
        _sizes("tests", tests),
        f"{_count(sum(map(len, groups)), 'file')} of src in {_count(len(groups), 'import circle')}.",
        f"{_count(total, 'cast')} in src.",
    ]
    failures = [
        *circle_failures(groups, source),
        *length_failures(source, LINES_OF_A_SOURCE_FILE),
        *length_failures(tests, LINES_OF_A_TEST_FILE),
        *cast_failures(casts, total),
        *test_import_failures(tests),
        *internals_failures(source),
    ]
    return Report(figures, failures)


# -- reading


def files(root: Path, folder: str) -> list[File]:
    """All files of Python below a folder of `root`."""
    found: list[File] = []
    for path in sorted((root / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        # src is where the packages are looked for; tests is a package itself.
        place = path.relative_to(root / "src" if folder == "src" else root)
        module = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
        found.append(
            File(path.relative_to(root), module, len(text.splitlines()), ast.parse(text, str(path)))
        )
    return found


def _hands_on(statement: ast.stmt) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=ast.Constant(value=str())):  # the docstring
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case _:
            return False


def imports(file: File) -> Iterator[Import]:
    """All imports of a file, wherever they stand. There are no relative ones: ruff refuses them."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                yield Import(node.module, alias.name, node.lineno)


# -- circles of imports


def circles(source: Iterable[File]) -> list[list[str]]:
    """The groups of modules that import each other, directly or by way of others."""
    graph = import_graph({file.module: file for file in source})
    reached = {module: _reached(graph, module) for module in graph}
    groups = {
        frozenset({other for other in reached[module] if module in reached[other]})
        for module in graph
        if module in reached[module]
    }
    return sorted(sorted(group) for group in groups)


def import_graph(modules: Mapping[str, File]) -> dict[str, set[str]]:
    """The modules of the package that each one imports.

    Who imports a name from a package's face imports the module that the face has it from. The face
    itself imports all of them, and would close a circle with each of them.
    """
    graph: dict[str, set[str]] = {}
    for module, file in modules.items():
        if not file.is_face:
            targets = (_target(one, modules) for one in imports(file))
            graph[module] = {one for one in targets if one is not None} - {module}
    return graph


def _target(one: Import, modules: Mapping[str, File]) -> str | None:
    if one.text in modules and not modules[one.text].is_face:
        return one.text
    file = modules.get(one.module)
    if file is None:
        return None
    if not file.is_face:
        return one.module
    for handed_on in imports(file):
        if one.name is not None and handed_on.name == one.name:
            return _target(handed_on, modules)
    return None


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for module in graph.get(waiting.pop(), set()) - reached:
            reached.add(module)
            waiting.append(module)
    return reached


def circle_failures(groups: Iterable[list[str]], source: Iterable[File]) -> Iterator[str]:
    """A sentence for each group, with a shortest circle that runs through its first module."""
    graph = import_graph({file.module: file for file in source})
    for group in groups:
        path = " -> ".join(_shortest_circle(graph, group[0]))
        yield (
            f"{_count(len(group), 'module')} import each other, for example {path}: move what they "
            "share into a module below them."
        )


def _shortest_circle(graph: Mapping[str, set[str]], start: str) -> list[str]:
    paths = [[start]]
    seen: set[str] = set()
    while True:  # `start` is in a circle, so this ends
        path = paths.pop(0)
        for module in sorted(graph[path[-1]]):
            if module == start:
                return [*path, start]
            if module not in seen:
                seen.add(module)
                paths.append([*path, module])


# -- sizes


def length_failures(checked: Iterable[File], limit: int) -> Iterator[str]:
    """A sentence for each file that is too long."""
    for file in checked:
        if file.lines > limit:
            yield f"{file.path} has {file.lines} lines, and may have {limit}: split it."


def casts_in(file: File) -> int:
    """How often a file calls ``cast``."""
    return sum(
        isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "cast")
            or (isinstance(node.func, ast.Attribute) and node.func.attr == "cast")
        )
        for node in ast.walk(file.tree)
    )


def cast_failures(casts: Mapping[Path, int], total: int) -> Iterator[str]:
    """A sentence, if there are too many."""
    if total >= CASTS:
        most = sorted(casts, key=lambda path: (-casts[path], path))[:3]
        where = ", ".join(f"{path} ({casts[path]})" for path in most)
        yield (
            f"src has {total} casts, and may have {CASTS - 1}; most are in {where}: declare what "
            f"other packages leave without types once, in {INTERNALS}."
        )


# -- imports that are not allowed


def test_import_failures(tests: Iterable[File]) -> Iterator[str]:
    """A sentence for each import of a test file by a test file."""
    modules = {file.module for file in tests if _is_test(file.path)}
    for file in tests:
        if _is_test(file.path):
            found = {name: one.line for one in imports(file) for name in (one.module, one.text)}
            for name in sorted(found.keys() & modules):
                yield (
                    f"{file.path}:{found[name]} imports the test file {name}: move what both need "
                    "to tests/support or to a conftest.py."
                )


def _is_test(path: Path) -> bool:
    return path.name.startswith("test_")


def internals_failures(source: Iterable[File]) -> Iterator[str]:
    """A sentence for each import of what is not public in another package."""
    ours = {file.module.partition(".")[0] for file in source}
    for file in source:
        if INTERNALS in file.path.parts:
            continue
        for one in imports(file):
            if one.module.partition(".")[0] not in ours and _is_private(one.text):
                yield (
                    f"{file.path}:{one.line} imports {one.text}, which is not public: give it a "
                    f"typed stand-in in {INTERNALS}, and a test that it is there."
                )


def _is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


# -- sentences


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _sizes(folder: str, checked: Sequence[File]) -> str:
    lines = sum(file.lines for file in checked)
    longest = max(checked, key=lambda file: file.lines, default=None)
    detail = "" if longest is None else f"; the longest is {longest.path} with {longest.lines}"
    return f"{_count(len(checked), 'file')} with {_count(lines, 'line')} in {folder}{detail}."


if __name__ == "__main__":
    sys.exit(main())
