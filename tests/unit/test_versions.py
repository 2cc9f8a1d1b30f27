"""``scripts/versions.py``: what it would run, and what it says at the end."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from scripts.versions import (
    Outcome,
    Plan,
    Project,
    find_python,
    lowest,
    plans_of,
    pythons,
    read_project,
    read_report,
    summary,
)


def project(*dependencies: str, extra: str = "driver>=1", minor: int = 11) -> Project:
    return Project(
        classifiers=["Framework :: Celery", f"Programming Language :: Python :: 3.{minor}"],
        dependencies=list(dependencies),
        optional_dependencies={"mysql": [extra], "sqlite": [], "postgres": []},
    )


# -- what to run


def test_the_lowest_versions_are_the_lower_bounds_of_dependencies_and_extras() -> None:
    found = lowest(
        project("celery>=5.7", "sqlalchemy[asyncio]>=2.0.36", extra="psycopg[binary]>=3")
    )
    assert found == ["celery==5.7", "sqlalchemy==2.0.36", "psycopg==3"]


@pytest.mark.parametrize("text", ["celery", "celery<6", "celery>=5.7,<6"])
def test_a_dependency_without_a_plain_lower_bound_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=f"no plain lower bound in '{text}'"):
        lowest(project(text))


def test_every_dependency_of_ours_has_a_lower_bound() -> None:
    assert "celery==5.7" in lowest(read_project())


def test_the_pythons_are_those_of_the_classifiers_and_the_next_one() -> None:
    assert pythons(project(minor=12)) == ["3.12", "3.13"]


def test_the_running_python_is_found_where_the_path_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    program = tmp_path / f"python{version}"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "nowhere"))
    assert find_python(version) == str(program)


def test_a_program_that_only_has_the_name_is_no_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pyenv puts such programs on the PATH.
    program = tmp_path / "python3.12"
    program.write_text("#!/bin/sh\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "nowhere"))
    assert find_python("3.12") is None


def test_pythons_that_are_not_installed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    plans, missing = plans_of("pythons", project(minor=12))
    assert plans == []
    assert [sentence.partition(":")[0] for sentence in missing] == [
        "Python 3.12 did not run",
        "Python 3.13 did not run",
    ]


# -- what it says

REPORT = """<?xml version="1.0"?>
<testsuites><testsuite>
  <testcase classname="tests.unit.test_a" name="test_good"/>
  <testcase classname="tests.unit.test_a" name="test_bad"><failure message="no"/></testcase>
  <testcase classname="tests.unit.test_a" name="test_broken"><error message="no"/></testcase>
  <testcase classname="tests.unit.test_a" name="test_known"><skipped type="pytest.xfail"/></testcase>
  <testcase classname="tests.unit.test_a" name="test_other">
    <skipped type="pytest.skip" message="no gevent"/>
  </testcase>
</testsuite></testsuites>
"""


def test_a_report_has_what_passed_failed_and_was_skipped(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    outcome = Outcome(Plan("lowest", "python"))
    read_report(report, outcome)
    assert outcome.passed == 2
    assert outcome.failures == ["tests.unit.test_a.test_bad", "tests.unit.test_a.test_broken"]
    assert outcome.skipped == {"no gevent": 1}
    assert not outcome.is_good


def test_the_summary_says_what_ran_what_failed_and_what_did_not_run() -> None:
    good = Outcome(Plan("py3.12", "python"), passed=12, skipped=Counter({"no gevent": 2}))
    good.versions = {"python": "3.12.1", "celery": "5.7.0", "kombu": "5.7.0"}
    bad = Outcome(Plan("py3.13", "python"), problem="its environment could not be made")
    text = summary([good, bad], ["Python 3.14 did not run: not found."], ["tests/unit"])
    assert text.splitlines() == [
        "tests/unit ran with:",
        "        python  celery  kombu  redis  sqlalchemy  pydantic  passed  failed  skipped",
        "py3.12  3.12.1  5.7.0   5.7.0  -      -           -         12      0       2",
        "py3.13  -       -       -      -      -           -         0       0       0",
        "py3.12 skipped 2: no gevent",
        "py3.13 failed: its environment could not be made",
        "Python 3.14 did not run: not found.",
    ]


def test_long_lists_of_failures_are_cut() -> None:
    outcome = Outcome(Plan("lowest", "python"), failures=[f"test_{number}" for number in range(22)])
    lines = summary([outcome], [], ["tests/unit"]).splitlines()
    assert lines[-2:] == ["lowest failed: test_19", "lowest failed: 2 more"]


@pytest.mark.parametrize(
    ("outcome", "good"),
    [
        (Outcome(Plan("lowest", "python"), passed=1), True),
        (Outcome(Plan("lowest", "python")), False),  # no test ran
        (Outcome(Plan("lowest", "python"), passed=1, failures=["test"]), False),
        (Outcome(Plan("lowest", "python"), passed=1, problem="it ended with exit code 3"), False),
    ],
)
def test_an_outcome_is_good_when_tests_ran_and_none_failed(outcome: Outcome, good: bool) -> None:
    assert outcome.is_good is good
