"""A bar chart of the rates as SVG: a bar for each contender, in groups."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

_WIDTH: Final = 720
_LABELS: Final = 210
_BAR: Final = 18
_GAP: Final = 6
_HEAD: Final = 30
_VALUES: Final = 70


def write_chart(path: Path, title: str, groups: Mapping[str, Sequence[tuple[str, float]]]) -> None:
    """Write the chart, with each group scaled to its greatest rate.

    Bars whose name begins with "tomskit" are coloured.

    Args:
        path: The file.
        title: Shown above the chart.
        groups: The contenders and rates of each group.
    """
    parts: list[str] = []
    top = _HEAD
    for group, rates in groups.items():
        parts.append(f'<text class="group" x="8" y="{top + 14}">{escape(group)}</text>')
        top += _HEAD - _GAP
        most = max((rate for _, rate in rates), default=1.0)
        for name, rate in sorted(rates, key=lambda one: -one[1]):
            width = max(1.0, (_WIDTH - _LABELS - _VALUES) * rate / most)
            kind = "ours" if name.startswith("tomskit") else "theirs"
            middle = top + _BAR - 5
            parts += [
                f'<text x="{_LABELS - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>',
                f'<rect class="{kind}" x="{_LABELS}" y="{top}" width="{width:.1f}" height="{_BAR}"/>',
                f'<text x="{_LABELS + width + 6:.1f}" y="{middle}">{rate:,.0f}</text>',
            ]
            top += _BAR + _GAP
        top += _GAP
    style = (
        "text{font:12px sans-serif;fill:#777}.group,.title{font-weight:bold}"
        ".ours{fill:#2a7f62}.theirs{fill:#a9b4bd}"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" '
        f'viewBox="0 0 {_WIDTH} {top}" role="img" aria-label="{escape(title)}">\n'
        f"<style>{style}</style>\n"
        f'<text class="title" x="8" y="16">{escape(title)}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n",
        encoding="utf-8",
    )
