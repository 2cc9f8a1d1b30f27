"""Pages show the files of the examples as they are."""

from pathlib import Path

import pytest

from tests.support.recipes import EXAMPLES, shown
from tests.support.workers import PROJECT

PAGES = {
    **{
        EXAMPLES / name / "README.md": name for name in ("alembic", "databases", "flask", "redbeat")
    },
    PROJECT / "docs" / "how-to" / "deployment.md": "deployment",
    PROJECT / "docs" / "how-to" / "monitoring.md": "monitoring",
}
"""Pages that show the files of a folder."""


@pytest.mark.parametrize(("page", "folder"), PAGES.items(), ids=PAGES.values())
def test_a_page_shows_the_files_of_its_example(page: Path, folder: str) -> None:
    files = {
        str(file.relative_to(EXAMPLES / folder)): file.read_text("utf-8")
        for file in (EXAMPLES / folder).rglob("*")
        if file.suffix in {".ini", ".py", ".service", ".yaml"} or file.name == "Dockerfile"
    }
    compared = {name: code for name, code in shown(page) if name in files}

    assert compared == {name: files[name] for name in compared}
    # The page of a folder shows all of it.
    assert page.parent.name != folder or compared.keys() == files.keys()
    assert compared


def test_the_cookbook_lists_every_example() -> None:
    cookbook = (PROJECT / "docs" / "how-to" / "cookbook.md").read_text("utf-8")
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}

    assert {name for name in folders if f"`examples/{name}`" not in cookbook} == set()
