"""Copy the pages of the documentation to build/pages, from which zensical builds the site.

The README, the docs and the examples link to each other with paths of the repository. Copied with their
folders, they can be built as they are. The README is the first page: its title and first sentence become larger,
with buttons below, and it has no menus at its sides.

Usage: python scripts/site.py
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = ROOT / "build" / "pages"
SOURCES: Final = (
    "*.md",
    "LICENSE",
    "docs/**/*.md",
    "docs/**/*.svg",
    "docs/*.css",
    "examples/**/*.md",
)
BUTTONS: Final = {
    "Tutorial": "docs/tutorial.html",
    "Coming from Celery": "docs/how-to/from-celery.html",
    "Comparison": "docs/comparison.html",
    "中文": "README.zh.html",
}


def main() -> None:
    """Copy every page and image, into an empty folder."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for pattern in SOURCES:
        for path in ROOT.glob(pattern):
            copy = PAGES / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for page in PAGES.rglob("*.md"):
        page.write_text(with_bars(page.read_text(encoding="utf-8")), encoding="utf-8")
    first = PAGES / "README.md"
    first.write_text(landing(first.read_text(encoding="utf-8")), encoding="utf-8")


def with_bars(page: str) -> str:
    """A page whose tables have a bar in code unescaped: GitHub needs the backslash, zensical shows it."""
    code = re.compile(r"`[^`\n]+`")
    return "\n".join(
        code.sub(lambda found: found[0].replace(r"\|", "|"), line) if line.startswith("|") else line
        for line in page.split("\n")
    )


def landing(readme: str) -> str:
    """The first page, from the README.

    Raises:
        ValueError: The README does not begin with a title and a sentence.
    """
    found = re.match(r"# (.+)\n\n(.+)\n\n(!\[.+\))\n", readme)
    if found is None:
        raise ValueError("README.md does not begin with a title, a sentence and the badges")
    title, sentence, badges = found.groups()
    sentence = re.sub("`(.+?)`", r"<code>\1</code>", sentence)
    buttons = "\n".join(
        f'<a class="md-button{"" if number else " md-button--primary"}" href="{page}">{name}</a>'
        for number, (name, page) in enumerate(BUTTONS.items())
    )
    hero = f'<div class="hero">\n<h1>{title}</h1>\n<p>{sentence}</p>\n<p>{buttons}</p>\n</div>'
    return (
        f"---\nhide:\n  - navigation\n  - toc\n---\n\n{hero}\n\n{badges}\n{readme[found.end() :]}"
    )


if __name__ == "__main__":
    main()
