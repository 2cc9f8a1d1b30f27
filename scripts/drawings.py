"""Draw what happens between several parties as SVG, from text: docs/images/*.txt.

The first line of such a text is the drawing's title, the second one names the parties, separated by ``|``.
Every other line is a step, from top to bottom: ``1: text`` is what the first party does, ``1 -> 2: text`` is
what it sends to the second one. ``!: text`` is a note across all parties.

The drawings have no background, and take their colours from the reader's choice of light and dark.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Final

WIDTH: Final = 760
SIZE: Final = 12
"""Of the text, in pixels."""
LETTER: Final = 6.3
"""How wide a letter is on average."""
LINE: Final = 15
GAP: Final = 10
STEP: Final = re.compile(r"(?:(\d+)(?: -> (\d+))?|(!)): (.+)")
STYLE: Final = (
    f"text{{font:{SIZE}px system-ui,sans-serif;fill:#1f2933;text-anchor:middle}}.title,.head{{font-weight:600}}"
    ".lane{stroke:#9aa5b1;stroke-dasharray:3 4}.box{fill:#e6f2ee;stroke:#2a7f62}.head-box{fill:#2a7f62}"
    ".head{fill:#fff}.arrow{stroke:#2a7f62;stroke-width:1.5}.tip{fill:#2a7f62}.note{fill:#b4371f}"
    "@media(prefers-color-scheme:dark){text{fill:#d9e2ec}.box{fill:#17372d;stroke:#4cb38f}"
    ".arrow{stroke:#4cb38f}.tip{fill:#4cb38f}.lane{stroke:#616e7c}.head{fill:#fff}.note{fill:#ff9b85}}"
)


def drawing(source: Path) -> str:
    """The drawing that a text describes.

    Raises:
        ValueError: A line is no step, or names a party that there is not.
    """
    title, heads, *steps = source.read_text(encoding="utf-8").splitlines()
    names = [name.strip() for name in heads.split("|")]
    apart = WIDTH / len(names)
    parts = [_text(title, WIDTH / 2, 16, "title")]
    top = 28.0
    wrapped = [_wrap(name, apart - 20) for name in names]
    height = max(map(len, wrapped)) * LINE + 8
    for number, lines in enumerate(wrapped):
        left = number * apart + 6
        parts.append(
            f'<rect class="head-box" x="{left:.0f}" y="{top:.0f}" width="{apart - 12:.0f}" '
            f'height="{height}" rx="4"/>'
        )
        first = top + (height - len(lines) * LINE) / 2 + SIZE
        parts += _lines(lines, left + apart / 2 - 6, first, "head")
    top += height
    start = len(parts), top
    top += GAP
    for step in filter(None, steps):
        found = STEP.fullmatch(step)
        if found is None or any(int(one) > len(names) for one in found.group(1, 2) if one):
            raise ValueError(f"{source}: {step!r} is no step between {len(names)} parties")
        drawn, height = _step(found, apart, top)
        parts += drawn
        top += height + GAP
    number, lane_top = start
    parts[number:number] = [
        f'<line class="lane" x1="{x:.0f}" y1="{lane_top:.0f}" x2="{x:.0f}" y2="{top:.0f}"/>'
        for x in ((lane + 0.5) * apart for lane in range(len(names)))
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top:.0f}" '
        f'viewBox="0 0 {WIDTH} {top:.0f}" role="img" aria-label="{escape(title)}">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _step(found: re.Match[str], apart: float, top: float) -> tuple[list[str], int]:
    """A step, and its height."""
    sender, receiver, note, text = found.groups()
    if note:
        lines = _wrap(text, WIDTH - 40)
        return _lines(lines, WIDTH / 2, top + SIZE, "note"), len(lines) * LINE
    start = (int(sender) - 0.5) * apart
    if receiver is None:
        lines = _wrap(text, apart - 24)
        height = len(lines) * LINE + 8
        box = (
            f'<rect class="box" x="{start - apart / 2 + 6:.0f}" y="{top:.0f}" '
            f'width="{apart - 12:.0f}" height="{height}" rx="4"/>'
        )
        return [box, *_lines(lines, start, top + SIZE + 4, "")], height
    end = (int(receiver) - 0.5) * apart
    lines = _wrap(text, abs(end - start) - 16)
    y = top + len(lines) * LINE + 2
    back = -7 if end > start else 7
    return [
        *_lines(lines, (start + end) / 2, top + SIZE, ""),
        f'<line class="arrow" x1="{start:.0f}" y1="{y:.0f}" x2="{end:.0f}" y2="{y:.0f}"/>',
        f'<path class="tip" d="M{end:.0f} {y:.0f}l{back} -4v8z"/>',
    ], len(lines) * LINE + 6


def _wrap(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, int(width / LETTER), break_long_words=False)


def _lines(lines: list[str], x: float, y: float, kind: str) -> list[str]:
    return [_text(line, x, y + number * LINE, kind) for number, line in enumerate(lines)]


def _text(text: str, x: float, y: float, kind: str) -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'


# -- badges

BADGE: Final = 20
"""Height of a badge, in pixels."""


def badges(facts: Mapping[str, str]) -> str:
    """Names and values in a row, as readers know them from other projects."""
    parts: list[str] = []
    left = 0.0
    for name, value in facts.items():
        for text, kind in ((name, "name"), (value, "value")):
            width = len(text) * (LETTER - 0.5) + 12
            parts += [
                f'<rect class="{kind}" x="{left:.0f}" width="{width:.0f}" height="{BADGE}"/>',
                _text(text, left + width / 2, 14, ""),
            ]
            left += width
        left += 6
    title = "; ".join(f"{name}: {value}" for name, value in facts.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left:.0f}" height="{BADGE}" '
        f'viewBox="0 0 {left:.0f} {BADGE}" role="img" aria-label="{escape(title)}">\n'
        "<style>text{font:11px Verdana,sans-serif;fill:#fff;text-anchor:middle}"
        ".name{fill:#555}.value{fill:#2a7f62}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )
