"""Check the types that users see with mypy, pyright, basedpyright, pyrefly and ty.

Each checker runs once over tests/typing, with its strict settings, on the ``tomskit`` of the current
environment. Every line that ends in ``# E: reason`` must be an error, and no other line
may be one. ``# E(not ty, pyrefly): reason`` names checkers that accept the line; if one
of them reports it, that is a difference too.

In addition, mypy must find no Any in tests/typing/no_any, not even in an expression, and
pyright (``--verifytypes``) must know the type of every public name of ``tomskit``.

Usage: python scripts/check_typing.py
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypedDict, cast

ROOT: Final = Path(__file__).resolve().parent.parent
TESTS: Final = ROOT / "tests" / "typing"
BIN: Final = Path(sys.executable).parent
MARK: Final = re.compile(r"# E(?:\(not (?P<gaps>[\w, ]+)\))?: \S")


class Line(NamedTuple):
    """A line of a file; the first one is 1."""

    path: Path
    number: int

    def name(self) -> str:
        """The place in the form that editors open."""
        return f"{self.path.relative_to(ROOT)}:{self.number}"


Errors = dict[Line, str]


class _Mypy(TypedDict):
    file: str
    line: int
    severity: Literal["error", "note"]
    message: str


class _Position(TypedDict):
    line: int


class _Range(TypedDict):
    start: _Position


class _Pyright(TypedDict):
    file: str
    severity: Literal["error", "warning", "information"]
    message: str
    range: _Range


class _PyrightReport(TypedDict):
    generalDiagnostics: list[_Pyright]


class _Pyrefly(TypedDict):
    path: str
    line: int
    severity: Literal["error", "warn", "info"]
    description: str


class _PyreflyReport(TypedDict):
    errors: list[_Pyrefly]


class _GitLabPositions(TypedDict):
    begin: _Position


class _GitLabLocation(TypedDict):
    path: str
    positions: _GitLabPositions


class _GitLab(TypedDict):
    description: str
    severity: Literal["info", "minor", "major", "critical", "blocker"]
    location: _GitLabLocation


def _read_mypy(output: str) -> Iterator[tuple[str, int, str]]:
    for text in output.splitlines():
        found = cast("_Mypy", json.loads(text))
        if found["severity"] == "error":
            yield found["file"], found["line"], found["message"]


def _read_pyright(output: str) -> Iterator[tuple[str, int, str]]:
    for found in cast("_PyrightReport", json.loads(output))["generalDiagnostics"]:
        if found["severity"] == "error":
            # Its lines count from 0.
            yield found["file"], found["range"]["start"]["line"] + 1, found["message"]


def _read_pyrefly(output: str) -> Iterator[tuple[str, int, str]]:
    for found in cast("_PyreflyReport", json.loads(output))["errors"]:
        if found["severity"] == "error":
            yield found["path"], found["line"], found["description"]


def _read_ty(output: str) -> Iterator[tuple[str, int, str]]:
    for found in cast("list[_GitLab]", json.loads(output)):
        if found["severity"] not in {"info", "minor"}:
            location = found["location"]
            yield location["path"], location["positions"]["begin"]["line"], found["description"]


@dataclass(frozen=True)
class Checker:
    """A type checker: how to call it and how to read its report."""

    name: str
    arguments: tuple[str, ...]
    read: Callable[[str], Iterator[tuple[str, int, str]]]

    def run(self) -> Errors:
        """Return the first error of each line.

        Raises:
            RuntimeError: The checker itself has failed.
        """
        command = [str(BIN / self.name), *self.arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        try:
            errors = list(self.read(done.stdout))
        except ValueError:
            errors = []
        # 0 and 1 mean that the checker has run. Without any error it has not seen the tests.
        if done.returncode not in {0, 1} or not errors:
            raise RuntimeError(
                f"{self.name} did not check the tests (exit code {done.returncode}):\n"
                f"{done.stdout}{done.stderr}"
            )
        found: Errors = {}
        for path, number, message in errors:
            found.setdefault(Line((ROOT / path).resolve(), number), message.splitlines()[0])
        return found


def _checkers() -> list[Checker]:
    tests = str(TESTS.relative_to(ROOT))
    python = sys.executable
    pyright = ("--outputjson", "--pythonpath", python, "--project")
    return [
        Checker(
            "mypy",
            (
                *("--config-file", f"{tests}/mypy.ini", "--cache-dir", ".mypy_cache/typing"),
                *("--python-executable", python, "--output", "json", "--no-error-summary", tests),
            ),
            _read_mypy,
        ),
        Checker("pyright", (*pyright, f"{tests}/pyrightconfig.json"), _read_pyright),
        Checker("basedpyright", (*pyright, f"{tests}/basedpyright.json"), _read_pyright),
        Checker(
            "pyrefly",
            (
                *("check", "--config", f"{tests}/pyrefly.toml", "--output-format", "json"),
                *("--python-interpreter-path", python, "--summary=none"),
            ),
            _read_pyrefly,
        ),
        Checker(
            "ty",
            (
                *("check", "--config-file", f"{tests}/ty.toml", "--output-format", "gitlab"),
                *("--python", python, "--no-progress", tests),
            ),
            _read_ty,
        ),
    ]


def _any() -> list[str]:
    """Find the places where mypy sees an Any in a service that must have none."""
    folder = TESTS / "no_any"
    command = [
        *(str(BIN / "mypy"), "--config-file", str(folder / "mypy.ini")),
        *("--cache-dir", ".mypy_cache/no_any", "--python-executable", sys.executable),
        *("--output", "json", "--no-error-summary", str(folder)),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return []
    try:
        errors = [*_read_mypy(done.stdout)]
    except ValueError:
        errors = []
    if not errors:
        raise RuntimeError(f"mypy did not check {folder}:\n{done.stdout}{done.stderr}")
    return [f"{path}:{number}: {message}" for path, number, message in errors]


def _incomplete_types() -> list[str]:
    """Return pyright's report if the type of a public name of tomskit is incomplete."""
    # In this mode pyright ignores --pythonpath and asks the python on the PATH for its packages. The
    # folder has no configuration of ours.
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    command = [str(BIN / "pyright"), "--verifytypes", "tomskit", "--ignoreexternal"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    # The exit code is 0 only if the score is 100 %.
    if done.returncode == 0:
        return []
    return f"{done.stdout}{done.stderr}".splitlines()


def _marks(files: list[Path]) -> dict[Line, frozenset[str]]:
    """Find every marked line, with the names of the checkers that accept it."""
    marks: dict[Line, frozenset[str]] = {}
    for path in files:
        for number, text in enumerate(path.read_text().splitlines(), start=1):
            mark = MARK.search(text)
            if mark is not None:
                names = mark["gaps"] or ""
                marks[Line(path, number)] = frozenset(re.findall(r"\w+", names))
    return marks


def _assertions(files: list[Path]) -> int:
    """Count the calls of assert_type."""
    calls = (
        node
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    )
    return sum(isinstance(call.func, ast.Name) and call.func.id == "assert_type" for call in calls)


def main() -> int:
    """Print the table and every difference; the exit code is 1 if there was one."""
    files = sorted(TESTS.rglob("*.py"))
    marks = _marks(files)
    checkers = _checkers()
    unknown = frozenset[str]().union(*marks.values()) - {checker.name for checker in checkers}
    if unknown:
        print(f"Marks name checkers that do not exist: {', '.join(sorted(unknown))}")
        return 2
    print(f"{_assertions(files)} assertions and {len(marks)} marked lines in {len(files)} files\n")
    with ThreadPoolExecutor() as pool:
        types = pool.submit(_incomplete_types)
        without_any = pool.submit(_any)
        reports = list(pool.map(Checker.run, checkers))
    print(f"{'checker':<14}{'cases':>7}{'caught':>8}{'unexpected':>12}")
    differences: list[str] = []
    for checker, errors in zip(checkers, reports, strict=True):
        cases = {line for line, gaps in marks.items() if checker.name not in gaps}
        missed = cases - errors.keys()
        unexpected = errors.keys() - cases
        print(
            f"{checker.name:<14}{len(cases):>7}{len(cases - missed):>8}{len(unexpected):>12}",
        )
        differences += [f"{line.name()}: {checker.name} sees no error" for line in sorted(missed)]
        differences += [
            f"{line.name()}: {checker.name}: {errors[line]}" for line in sorted(unexpected)
        ]
    print()
    for name, found in (
        ("no Any in tests/typing/no_any (mypy)", without_any.result()),
        ("all public names have types (pyright)", types.result()),
    ):
        print(f"{name:<40}{'no' if found else 'yes'}")
        differences += found
    if differences:
        print("", *differences, sep="\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
