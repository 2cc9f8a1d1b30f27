"""The names of other packages that are not public and are relied on, as `_internals` describes them.

The docstring of each module there has an entry for each name::

    `Class.name`, and what of it
        For: what it is used for.
        When it is missing: what happens then.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).resolve().parent.parent / "src" / "tomskit"

ENTRY: Final = re.compile(
    r"For: (?P<purpose>.*?)(?:^When (?P<condition>[^:]*): (?P<effect>.*))?\Z",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Entry:
    """A name, or a few that belong together.

    Attributes:
        text: The names in backquotes, with words around them.
        purpose: What they are used for.
        effect: What happens in a release that does not have them.
    """

    text: str
    purpose: str
    effect: str

    @property
    def names(self) -> list[str]:
        """The names in backquotes, without the class or module that each belongs to."""
        return [name.rpartition(".")[2] for name in re.findall(r"`+([\w.]+)`+", self.text)]


@dataclass(frozen=True)
class Part:
    """What one module describes.

    Attributes:
        path: Of the module.
        package: The name of the package, as readers know it.
        topic: Which part of it.
        entries: The names.
    """

    path: Path
    package: str
    topic: str
    entries: list[Entry]


def parts() -> list[Part]:
    """The modules that describe names, by package."""
    found = [part for path in sorted(SOURCE.rglob("_internals/*.py")) if (part := read(path))]
    return sorted(found, key=lambda part: part.package.lower())


def read(path: Path) -> Part | None:
    """What a module describes; None where it describes no names."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    summary, _, rest = docstring.partition("\n\n")
    package, _, topic = summary.removesuffix(".").partition(": ")
    entries = list(_entries(rest))
    return Part(path, package, topic, entries) if entries else None


def _entries(text: str) -> Iterator[Entry]:
    for paragraph in re.split(r"\n\s*\n", text):
        head, indent, body = paragraph.partition("\n    ")
        found = ENTRY.match(textwrap.dedent(indent[1:] + body))
        if found is not None:
            effect = _line(found["effect"] or "")
            if found["condition"] not in {None, "it is missing"}:
                effect = f"When {found['condition']}: {effect}"
            yield Entry(_line(head), _line(found["purpose"]), effect)


def _line(text: str) -> str:
    return " ".join(text.split())
