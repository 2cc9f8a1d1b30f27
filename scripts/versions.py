"""Run the tests with other versions of the dependencies and of Python.

    lowest   the lowest versions of the package's direct dependencies that pyproject.toml admits
    newest   the newest versions of everything, and of celery and kombu pre-releases as well; with hiredis
    pythons  each Python that the package's classifiers name, and the next one, where it is installed

Each gets a virtual environment of its own, .venv-lowest, .venv-newest or .venv-py3.11 and so on,
made with the interpreter that runs this script (`pythons`: with each that is found on the PATH or
among pyenv's). It is kept for the next run. A table at the end says what ran and with which
versions, and below it what did not run and why.

The exit code is 1 if a test failed, an environment could not be made, or nothing ran at all. An
interpreter that is not installed is no failure.

Usage: python scripts/versions.py (lowest | newest | pythons) [--processes NUMBER] [TESTS...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypedDict
from xml.etree import ElementTree as ET

ROOT: Final = Path(__file__).resolve().parent.parent
PYPROJECT: Final = ROOT / "pyproject.toml"
TESTS: Final = ["tests/unit", "tests/integration"]
EXTRAS: Final = ["mysql", "sqlite", "postgres"]
INSTALL: Final = ["--editable", f".[{','.join(EXTRAS)}]", "--group", "test"]
PRE_RELEASES: Final = ["celery", "kombu"]
"""Packages of which `newest` takes pre-releases."""
ALSO: Final = ["hiredis"]
"""Packages that `newest` installs besides: where hiredis is there, redis-py reads answers by it."""
SHOWN: Final = ["celery", "kombu", "redis", "sqlalchemy", "pydantic"]
"""Packages whose versions the table shows."""
FAILURES_SHOWN: Final = 20
OUTPUT_SHOWN: Final = 20
"""Lines of what pip printed when it failed."""
REQUIREMENT: Final = re.compile(r"(?P<name>[\w.-]+)(\[[\w,]+\])?>=(?P<version>[\w.]+)")
# Dependency groups need this one.
PIP: Final = "pip>=25.1"

Mode = Literal["lowest", "newest", "pythons"]


class Project(TypedDict):
    """What is read of pyproject.toml's table ``project``."""

    classifiers: list[str]
    dependencies: list[str]
    optional_dependencies: dict[str, list[str]]


@dataclass(frozen=True)
class Plan:
    """An environment and how to fill it.

    Attributes:
        name: For the table, and for the name of its folder.
        interpreter: The Python to make it with.
        constraints: What pip is to install of a package, such as ``celery==5.7``.
        newest: Whether to upgrade everything, each time.
    """

    name: str
    interpreter: str
    constraints: Sequence[str] = ()
    newest: bool = False

    @property
    def folder(self) -> Path:
        """The virtual environment."""
        return ROOT / f".venv-{self.name}"

    @property
    def python(self) -> str:
        """The virtual environment's interpreter."""
        return str(self.folder / "bin" / "python")


@dataclass
class Outcome:
    """What came of a plan.

    Attributes:
        problem: Why no tests ran, or why there is no result; empty if there is one.
        failures: The names of tests that failed.
        skipped: Why tests were skipped, and how many for each reason.
    """

    plan: Plan
    problem: str = ""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    passed: int = 0
    failures: list[str] = field(default_factory=list[str])
    skipped: Counter[str] = field(default_factory=Counter[str])

    @property
    def is_good(self) -> bool:
        """Whether tests ran and none failed."""
        return not self.problem and not self.failures and self.passed > 0


class InstallError(Exception):
    """An environment could not be made; the message is the end of what pip or venv printed."""


def main() -> int:
    """Run what the command line asks for, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("mode", choices=["lowest", "newest", "pythons"])
    parser.add_argument("--processes", type=int, default=2, help="of pytest-xdist, by default 2")
    parser.add_argument("tests", nargs="*", default=TESTS, help="by default unit and integration")
    options = parser.parse_intermixed_args()
    mode: Mode = options.mode
    tests: list[str] = options.tests or TESTS
    processes: int = options.processes

    plans, missing = plans_of(mode, read_project())
    outcomes = [run(plan, tests, processes) for plan in plans]
    print(f"\n{summary(outcomes, missing, tests)}")
    return 0 if outcomes and all(outcome.is_good for outcome in outcomes) else 1


# -- what to run


def read_project() -> Project:
    """Read pyproject.toml."""
    with PYPROJECT.open("rb") as file:
        table = tomllib.load(file)["project"]
    return Project(
        classifiers=table["classifiers"],
        dependencies=table["dependencies"],
        optional_dependencies=table["optional-dependencies"],
    )


def plans_of(mode: Mode, project: Project) -> tuple[list[Plan], list[str]]:
    """What to run, and a sentence for each thing that cannot run here."""
    if mode == "lowest":
        return [Plan("lowest", sys.executable, constraints=lowest(project))], []
    if mode == "newest":
        return [Plan("newest", sys.executable, newest=True)], []
    plans: list[Plan] = []
    missing: list[str] = []
    for version in pythons(project):
        interpreter = find_python(version)
        if interpreter is None:
            missing.append(
                f"Python {version} did not run: no python{version} that can make a virtual "
                f"environment is on the PATH or in {pyenv_versions()}."
            )
        else:
            plans.append(Plan(f"py{version}", interpreter))
    return plans, missing


def lowest(project: Project) -> list[str]:
    """A constraint for each direct dependency: the lower bound that pyproject.toml gives it.

    Raises:
        ValueError: A dependency has no lower bound, or more than that.
    """
    extras = (project["optional_dependencies"][extra] for extra in EXTRAS)
    constraints: list[str] = []
    for text in [*project["dependencies"], *(text for extra in extras for text in extra)]:
        found = REQUIREMENT.fullmatch(text)
        if found is None:
            raise ValueError(
                f"pyproject.toml has no plain lower bound in {text!r}: write name>=1.2"
            )
        constraints.append(f"{found['name']}=={found['version']}")
    return constraints


def pythons(project: Project) -> list[str]:
    """The versions that the classifiers name, and the one after them."""
    prefix = "Programming Language :: Python :: 3."
    named = [
        int(line.removeprefix(prefix))
        for line in project["classifiers"]
        if re.fullmatch(re.escape(prefix) + r"\d+", line)
    ]
    return [f"3.{minor}" for minor in [*sorted(named), max(named) + 1]]


def find_python(version: str) -> str | None:
    """An interpreter of this version that can make virtual environments."""
    return next(filter(lambda path: _fits(path, version), _candidates(version)), None)


def _candidates(version: str) -> Iterator[str]:
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(f"python{version}", path=folder)
        if found is not None:
            yield found
    for installed in sorted(pyenv_versions().glob(f"{version}.*"), reverse=True):
        yield str(installed / "bin" / f"python{version}")


def pyenv_versions() -> Path:
    """Where pyenv installs interpreters."""
    return Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


def _fits(interpreter: str, version: str) -> bool:
    # pyenv puts programs on the PATH that only say that another version has to be chosen; Debian
    # ships ensurepip, without which venv fails, in a package of its own.
    program = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [interpreter, "-c", program], capture_output=True, text=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == version


# -- running


def run(plan: Plan, tests: Sequence[str], processes: int) -> Outcome:
    """Make the environment, if need be, and run the tests in it."""
    outcome = Outcome(plan)
    try:
        prepare(plan)
    except InstallError as error:
        outcome.problem = f"its environment could not be made: {error}"
        return outcome
    outcome.versions = versions_in(plan)
    _say(f"{plan.name}: {' '.join(tests)}")
    report = plan.folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [plan.python, "-m", "pytest", *tests, f"--numprocesses={processes}"]
    done = subprocess.run(
        [*command, "--dist=worksteal", f"--junit-xml={report}"], cwd=ROOT, check=False
    )
    if report.exists():
        read_report(report, outcome)
    if done.returncode and not outcome.failures:
        outcome.problem = f"pytest ended with exit code {done.returncode}"
    return outcome


def prepare(plan: Plan) -> None:
    """Make the environment and install into it, unless it is as the plan wants it.

    Raises:
        InstallError: That failed.
    """
    stamp = plan.folder / "installed.json"
    wanted = json.dumps([plan.constraints, PYPROJECT.read_text(encoding="utf-8")])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and not plan.newest:
        return
    _say(f"{plan.name}: installing into {plan.folder.name}")
    stamp.unlink(missing_ok=True)
    if not plan.newest:  # else an upgrade is enough
        shutil.rmtree(plan.folder, ignore_errors=True)
    _call([plan.interpreter, "-m", "venv", str(plan.folder)])
    # Not --quiet: that would hide which requirements contradict each other.
    pip = [plan.python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]
    _call([*pip, "--upgrade", PIP])
    if plan.newest:
        _call([*pip, "--upgrade", "--upgrade-strategy=eager", *INSTALL, *ALSO])
        # Only of these two: --pre counts for everything that the same command installs.
        _call([*pip, "--upgrade", "--pre", *PRE_RELEASES])
    else:
        file = plan.folder / "constraints.txt"
        file.write_text("\n".join(plan.constraints), encoding="utf-8")
        _call([*pip, "--constraint", str(file), *INSTALL])
    stamp.write_text(wanted, encoding="utf-8")


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if not line.startswith("WARNING: ")]
        raise InstallError("\n".join(["", *lines[-OUTPUT_SHOWN:]]))


def versions_in(plan: Plan) -> dict[str, str]:
    """The versions in an environment of the packages that the table shows."""
    program = (
        "import json, platform, sys; from importlib.metadata import version; "
        "found = {name: version(name) for name in sys.argv[1:]}; "
        "print(json.dumps({'python': platform.python_version(), **found}))"
    )
    done = subprocess.run(
        [plan.python, "-c", program, *SHOWN], capture_output=True, text=True, check=True
    )
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def read_report(report: Path, outcome: Outcome) -> None:
    """Read pytest's report in the format of JUnit."""
    for case in ET.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failures.append(f"{case.get('classname')}.{case.get('name')}")
        # A test that is expected to fail, and fails, is reported as skipped: it counts as passed.
        elif (skipped := case.find("skipped")) is not None and skipped.get(
            "type"
        ) != "pytest.xfail":
            outcome.skipped[skipped.get("message") or "no reason given"] += 1
        else:
            outcome.passed += 1


# -- the summary


def summary(outcomes: Sequence[Outcome], missing: Iterable[str], tests: Sequence[str]) -> str:
    """A table of what ran, and below it what failed and what did not run."""
    head = ["", "python", *SHOWN, "passed", "failed", "skipped"]
    rows = [
        [
            outcome.plan.name,
            *(outcome.versions.get(name, "-") for name in ["python", *SHOWN]),
            *(map(str, (outcome.passed, len(outcome.failures), outcome.skipped.total()))),
        ]
        for outcome in outcomes
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in [head, *rows]]
    return "\n".join([f"{' '.join(tests)} ran with:", *lines, *_details(outcomes), *missing])


def _details(outcomes: Iterable[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        name = outcome.plan.name
        if outcome.problem:
            yield f"{name} failed: {outcome.problem}"
        for failure in outcome.failures[:FAILURES_SHOWN]:
            yield f"{name} failed: {failure}"
        if (more := len(outcome.failures) - FAILURES_SHOWN) > 0:
            yield f"{name} failed: {more} more"
        for reason, count in outcome.skipped.most_common():
            yield f"{name} skipped {count}: {reason}"


def _say(text: str) -> None:
    print(f"\n==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
