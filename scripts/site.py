"""Copy the pages of the documentation to build/pages, from which zensical builds the site.

The README, the docs and the examples link to each other with paths of the repository. Copied with their
folders, they can be built as they are.

Usage: python scripts/site.py
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = ROOT / "build" / "pages"
SOURCES: Final = ("*.md", "LICENSE", "docs/**/*.md", "docs/images/*.svg", "examples/**/*.md")


def main() -> None:
    """Copy every page and image, into an empty folder."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for pattern in SOURCES:
        for path in ROOT.glob(pattern):
            copy = PAGES / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


if __name__ == "__main__":
    main()
