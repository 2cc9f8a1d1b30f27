"""Drawings that are made from text."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from scripts.drawings import WIDTH, badges, drawing

SVG = "{http://www.w3.org/2000/svg}"
TEXT = """What happens
client | server
1: thinks & waits
1 -> 2: a question that is so long that it takes more than one line, as there is little room
!: the process is killed
2 -> 1: an answer
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "drawing.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_word_of_the_text_is_drawn_in_its_order(tmp_path: Path) -> None:
    root = ET.fromstring(drawing(written(tmp_path, TEXT)))

    drawn = " ".join(text.text or "" for text in root.iter(f"{SVG}text"))
    assert drawn.split() == re.sub(r"\d( -> \d)?: |!: | \|", "", TEXT).split()


def test_arrows_point_from_sender_to_receiver(tmp_path: Path) -> None:
    root = ET.fromstring(drawing(written(tmp_path, TEXT)))

    ends = [
        (line.get("x1"), line.get("x2"))
        for line in root.iter(f"{SVG}line")
        if line.get("class") == "arrow"
    ]
    left, right = f"{WIDTH / 4:.0f}", f"{WIDTH * 3 / 4:.0f}"
    assert ends == [(left, right), (right, left)]


@pytest.mark.parametrize("step", ["1 -> 3: to nobody", "a note", "1 > 2: a wrong arrow"])
def test_line_that_is_no_step_is_refused(tmp_path: Path, step: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(step))):
        drawing(written(tmp_path, f"Title\none | two\n{step}\n"))


def test_badges_say_names_and_values() -> None:
    root = ET.fromstring(badges({"Python": "3.11 | 3.12", "license": "MIT"}))

    assert [text.text for text in root.iter(f"{SVG}text")] == [
        "Python",
        "3.11 | 3.12",
        "license",
        "MIT",
    ]
