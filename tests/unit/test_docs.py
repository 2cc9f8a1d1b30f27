"""The check of the documentation: what mypy says of the modules of many pages at once."""

from pathlib import Path

import pytest

# Neither is among the packages of `make test-lowest` and the like.
pytest.importorskip("mypy")
pytest.importorskip("yaml")

from scripts.docs import ROOT, Page, read_page, type_errors, with_unique_names, write_modules

TASKS = """
```python
# tasks.py
def price(amount: int) -> int:
    return amount


def charge(amount: int) -> str:
    return amount
```
"""
CALLS = """
Text.

```python
import tasks
from tasks import price

price({argument})
tasks.price(2)
```
"""


def written(folder: Path, name: str, text: str) -> Page:
    """A page that stands in the documentation, with its modules where they are expected."""
    file = folder / "page.md"
    file.write_text(text, encoding="utf-8")
    page = Page(ROOT / "docs" / name, text, read_page(file).blocks)
    assert write_modules(page, folder / f"docs_{name.replace('.', '_')}")
    return page


def test_errors_are_those_of_the_page_and_the_line_where_they_stand(tmp_path: Path) -> None:
    pages = [
        written(tmp_path, "one.md", TASKS + CALLS.format(argument="1")),
        # Its module of the same name is another one.
        written(tmp_path, "two.md", TASKS.replace("int", "float") + CALLS.format(argument="'x'")),
    ]
    found = [
        (problem.path.name, problem.line, problem.message.partition("[")[2])
        for problem in sorted(type_errors(pages, tmp_path))
    ]
    assert found == [
        ("one.md", 9, "return-value]"),
        ("two.md", 9, "return-value]"),
        ("two.md", 18, "arg-type]"),
    ]


def test_only_imports_of_the_pages_own_modules_get_other_names(tmp_path: Path) -> None:
    page = written(tmp_path, "one.md", TASKS)
    code = (
        "import tasks  # ours\nfrom tasks import price\nimport tasks_of\nfrom tasksets import x\n"
    )
    assert with_unique_names(code, page, [Path("tasks.py")]) == (
        "import docs_one_md_tasks as tasks  # ours\n"
        "from docs_one_md_tasks import price\n"
        "import tasks_of\n"
        "from tasksets import x\n"
    )
