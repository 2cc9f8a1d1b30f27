"""``scripts/check_house.py``: each rule is broken by a small tree, and says what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from scripts.check_house import CASTS, check, main

WriteTree = Callable[[dict[str, str]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> WriteTree:
    """Write files below a temporary folder, with the packages that they are in."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def failures(root: Path) -> list[str]:
    return check(root).failures


def test_a_tree_that_breaks_no_rule_has_figures_and_no_failures(tree: WriteTree) -> None:
    report = check(
        tree(
            {
                "src/pack/__init__.py": '"""Doc."""\n',
                "src/pack/above.py": "from typing import cast\nfrom pack import below\nx = cast(int, below)\n",
                "src/pack/below.py": "\n",
                "tests/test_above.py": "import pack.above\n",
            }
        )
    )
    assert report.failures == []
    assert report.figures == [
        "3 files with 5 lines in src; the longest is src/pack/above.py with 3.",
        "1 file with 1 line in tests; the longest is tests/test_above.py with 1.",
        "0 files of src in 0 import circles.",
        "1 cast in src.",
    ]


def test_an_empty_folder_has_no_failures(tmp_path: Path) -> None:
    assert failures(tmp_path) == []


# -- circles


@pytest.mark.parametrize(
    "statement",
    [
        "import pack.a",
        "import pack.a as other",
        "from pack import a",
        "from pack.a import name",
        "def load() -> None:\n    from pack.a import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack import a",
    ],
)
def test_two_modules_that_import_each_other_are_a_circle(tree: WriteTree, statement: str) -> None:
    root = tree(
        {
            "src/pack/__init__.py": "",
            "src/pack/a.py": "from pack import b\n",
            "src/pack/b.py": f"{statement}\n",
        }
    )
    assert failures(root) == [
        (
            "2 modules import each other, for example pack.a -> pack.b -> pack.a: move what they share "
            "into a module below them."
        )
    ]


def test_a_longer_circle_is_shown_from_end_to_end(tree: WriteTree) -> None:
    report = check(
        tree(
            {
                "src/pack/a.py": "import pack.b\n",
                "src/pack/b.py": "import pack.c\n",
                "src/pack/c.py": "import pack.a\n",
                "src/pack/d.py": "import pack.a\n",  # leads into it, and is not a part of it
            }
        )
    )
    assert "3 files of src in 1 import circle." in report.figures
    assert [text for text in report.failures if "pack.a -> pack.b -> pack.c -> pack.a" in text]


def test_a_packages_face_closes_no_circle(tree: WriteTree) -> None:
    root = tree(
        {
            "src/pack/__init__.py": 'from pack.a import name\n\n__all__ = ("name",)\n',
            "src/pack/a.py": "from pack import b\n",
            "src/pack/b.py": "import pack\n",
        }
    )
    assert failures(root) == []


def test_a_name_of_a_face_is_an_import_of_the_module_that_defines_it(tree: WriteTree) -> None:
    root = tree(
        {
            "src/pack/__init__.py": "from pack.a import name\n",
            "src/pack/a.py": "from pack import b\n",
            "src/pack/b.py": "from pack import name\n",
        }
    )
    assert ["pack.a -> pack.b -> pack.a" in text for text in failures(root)] == [True]


def test_a_package_that_does_more_than_hand_on_may_close_a_circle(tree: WriteTree) -> None:
    root = tree(
        {
            "src/pack/__init__.py": "from pack.a import name\n\nname.__module__ = __name__\n",
            "src/pack/a.py": "import pack\n",
        }
    )
    assert ["pack -> pack.a -> pack" in text for text in failures(root)] == [True]


# -- sizes


@pytest.mark.parametrize(
    ("path", "limit"), [("src/pack/long.py", 400), ("tests/test_long.py", 600)]
)
def test_a_file_may_have_so_many_lines_and_no_more(tree: WriteTree, path: str, limit: int) -> None:
    assert failures(tree({path: "x = 1\n" * limit})) == []
    assert failures(tree({path: "x = 1\n" * (limit + 1)})) == [
        f"{path} has {limit + 1} lines, and may have {limit}: split it."
    ]


@pytest.mark.parametrize("call", ["cast(int, x)", "typing.cast(int, x)"])
def test_src_may_have_so_many_casts_and_no_more(tree: WriteTree, call: str) -> None:
    assert failures(tree({"src/pack/a.py": f"{call}\n" * (CASTS - 1)})) == []
    found = failures(tree({"src/pack/b.py": f"{call}\n"}))
    assert [text.partition(":")[0] for text in found] == [
        "src has 60 casts, and may have 59; most are in src/pack/a.py (59), src/pack/b.py (1)"
    ]


def test_casts_of_tests_are_not_counted(tree: WriteTree) -> None:
    assert failures(tree({"tests/test_a.py": "cast(int, x)\n" * CASTS})) == []


# -- imports that are not allowed


@pytest.mark.parametrize(
    "statement",
    [
        "import tests.unit.test_a",
        "from tests.unit import test_a",
        "from tests.unit.test_a import helper, other",
    ],
)
def test_a_test_file_imports_no_other_one(tree: WriteTree, statement: str) -> None:
    root = tree({"tests/unit/test_a.py": "", "tests/integration/test_b.py": f"\n{statement}\n"})
    assert failures(root) == [
        (
            "tests/integration/test_b.py:2 imports the test file tests.unit.test_a: move what both "
            "need to tests/support or to a conftest.py."
        )
    ]


def test_a_test_file_may_import_what_is_no_test_file(tree: WriteTree) -> None:
    root = tree(
        {
            "tests/support/helpers.py": "",
            "tests/conftest.py": "",
            "tests/unit/test_a.py": "from tests.support import helpers\nimport tests.conftest\n",
        }
    )
    assert failures(root) == []


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("from celery import _state", "celery._state"),
        ("from celery._state import current_app", "celery._state.current_app"),
        ("import celery._state", "celery._state"),
    ],
)
def test_what_is_not_public_elsewhere_is_imported_by_the_internals_only(
    tree: WriteTree, statement: str, name: str
) -> None:
    assert failures(tree({"src/pack/_internals/celery.py": statement})) == []
    assert failures(tree({"src/pack/app.py": statement})) == [
        (
            f"src/pack/app.py:1 imports {name}, which is not public: give it a typed stand-in in "
            "_internals, and a test that it is there."
        )
    ]


@pytest.mark.parametrize(
    "statement", ["from pack._rooms import door", "from __future__ import annotations"]
)
def test_the_packages_own_private_modules_and_pythons_features_are_no_internals_of_others(
    tree: WriteTree, statement: str
) -> None:
    assert failures(tree({"src/pack/app.py": statement})) == []


# -- the command


@pytest.mark.parametrize(("text", "code"), [("", 0), ("import pack._rooms\nimport a._b\n", 1)])
def test_the_exit_code_says_whether_there_is_a_failure(
    tree: WriteTree,
    text: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tree({"src/pack/app.py": text})
    monkeypatch.setattr("sys.argv", ["check_house.py", str(root)])
    assert main() == code
    printed = capsys.readouterr().out
    assert "0 casts in src." in printed
    assert ("error: src/pack/app.py:2 imports a._b" in printed) is bool(code)
