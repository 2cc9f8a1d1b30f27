"""The site's menu has every page, and nothing else."""

import re
import tomllib
from pathlib import Path

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
