"""Checks that `make check` need not repeat."""

import subprocess
import sys
from pathlib import Path

import pytest
from scripts import unless_passed

RUNS = "from pathlib import Path; runs = Path('runs'); runs.write_text(runs.read_text() + 'x')"
FAILS = f"{RUNS}; raise SystemExit(3)"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file that is read, a folder, and one of which only names count."""
    monkeypatch.chdir(tmp_path)
    for name in ("one.py", "folder/two.py", "folder/__pycache__/two.pyc", "names/three.py"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("1\n")
    Path("runs").touch()
    return tmp_path


def check(program: str = RUNS, *, name: str = "types") -> int:
    arguments = [name, "--names", "names", "one.py", "folder", "--"]
    return unless_passed.main([*arguments, sys.executable, "-c", program])


def runs() -> int:
    return len(Path("runs").read_text())


def test_a_check_that_has_passed_is_not_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert (check(), check()) == (0, 0)

    assert runs() == 1
    assert "types: has passed, and nothing that it reads has changed" in capsys.readouterr().out


def test_one_that_has_failed_is_run_again() -> None:
    assert (check(FAILS), check(FAILS)) == (3, 3)
    assert runs() == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda: Path("one.py").write_text("2\n"),
        lambda: Path("folder/two.py").write_text("2\n"),
        lambda: Path("folder/two.py").rename("folder/four.py"),
        lambda: Path("folder/new.py").touch(),
        lambda: Path("folder/two.py").unlink(),
        lambda: Path("names/three.py").rename("names/four.py"),
    ],
    ids=["a file", "below a folder", "another name", "a new file", "one file less", "a name"],
)
def test_it_is_run_again_after_a_change(change: object) -> None:
    check()
    assert callable(change)
    change()
    check()

    assert runs() == 2


def test_what_is_not_read_changes_nothing() -> None:
    check()
    Path("folder/__pycache__/two.pyc").write_text("2\n")
    Path("names/three.py").write_text("2\n")
    Path("other.py").touch()
    check()

    assert runs() == 1


def test_another_command_another_check_and_other_packages_are_other_checks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check()
    check(f"{RUNS} ")
    check(f"{RUNS} ", name="docs")
    packages = tmp_path / "packages"
    (packages / "celery-5.7.0.dist-info").mkdir(parents=True)

    def path_of_packages(name: str) -> str:
        return str(packages)

    monkeypatch.setattr("sysconfig.get_path", path_of_packages)
    check(f"{RUNS} ")
    (packages / "celery-5.7.0.dist-info").rename(packages / "celery-5.7.1.dist-info")
    check(f"{RUNS} ")

    assert runs() == 5


def test_a_change_while_it_runs_is_not_taken_for_checked() -> None:
    check(f"{RUNS}; Path('one.py').write_text('2')")
    check(f"{RUNS}; Path('one.py').write_text('2')")
    check(f"{RUNS}; Path('one.py').write_text('2')")

    assert runs() == 2


def test_a_path_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert unless_passed.main(["types", "srcs", "--", "true"]) == 2
    assert "types cannot read srcs" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["types", "one.py"], ["--", "true"]])
def test_without_a_command_or_a_name_it_says_how_it_is_used(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, unless_passed.__file__, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Usage: python scripts/unless_passed.py" in done.stdout
