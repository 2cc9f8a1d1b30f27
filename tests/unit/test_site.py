"""The site: its menu has every page, and nothing else; its first page is the README."""

import re
import tomllib
from pathlib import Path

import pytest
from scripts.site import BUTTONS, landing, with_bars

ROOT = Path(__file__).parents[2]


def test_the_menu_has_every_page() -> None:
    text = (ROOT / "zensical.toml").read_text("utf-8")
    tomllib.loads(text)
    listed = re.findall(r'= "([\w./-]+\.md)"', text)
    pages = {
        str(path.relative_to(ROOT))
        for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
        for path in ROOT.glob(pattern)
    }

    assert len(listed) == len(set(listed))
    assert set(listed) == pages


def test_first_page_has_the_whole_readme_and_buttons_that_lead_to_pages() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    page = landing(readme)

    assert "<h1>tomskit</h1>" in page
    assert readme.partition("images/badges.svg)\n")[2] in page
    for name, target in BUTTONS.items():
        assert f'href="{target}">{name}</a>' in page
        assert (ROOT / target).with_suffix(".md").exists()


def test_readme_without_the_expected_beginning_is_refused() -> None:
    with pytest.raises(ValueError, match="does not begin with a title"):
        landing("Something else\n")


def test_bars_in_the_code_of_tables_lose_the_backslash_that_github_needs() -> None:
    page = "Text `a \\| b`\n| `str \\| None` | a \\| b |\n"

    assert with_bars(page) == "Text `a \\| b`\n| `str | None` | a \\| b |\n"
