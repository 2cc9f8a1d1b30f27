"""The Chinese pages have the code blocks of the English ones, and say where these are."""

import re
from pathlib import Path

import pytest
from scripts.reference import chinese, settings_page

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"(?:^<!-- [^\n]*? -->\n+)?^```[^\n]*\n.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)")
TO_THE_OTHER = re.compile(r"\[(?:English|中文说明)\]\(\S+\)|English: .*")
ORIGINALS = {
    "README.zh.md": ["README.md"],
    "docs/zh/async-client.md": ["docs/how-to/async-client.md"],
    "docs/zh/asyncio-pool.md": ["docs/how-to/asyncio-pool.md"],
    "docs/zh/configuration.md": ["docs/how-to/configuration.md"],
    "docs/zh/cookbook.md": ["docs/how-to/cookbook.md"],
    "docs/zh/delivery.md": ["docs/how-to/delivery.md"],
    "docs/zh/deployment.md": ["docs/how-to/deployment.md"],
    "docs/zh/faq.md": ["docs/faq.md"],
    "docs/zh/from-celery.md": ["docs/how-to/from-celery.md"],
    "docs/zh/from-toms-fast.md": ["docs/how-to/from-toms-fast.md"],
    "docs/zh/monitoring.md": ["docs/how-to/monitoring.md"],
    "docs/zh/once.md": ["docs/how-to/once.md"],
    "docs/zh/own-provider.md": ["docs/how-to/own-provider.md"],
    "docs/zh/own-runtime.md": ["docs/how-to/own-runtime.md"],
    "docs/zh/own-serializer.md": ["docs/how-to/own-serializer.md"],
    "docs/zh/progress.md": ["docs/how-to/progress.md"],
    "docs/zh/redis.md": ["docs/how-to/redis-fast-path.md", "docs/how-to/sentinel-and-tls.md"],
    "docs/zh/security.md": ["docs/how-to/security.md"],
    "docs/zh/sessions.md": ["docs/how-to/sessions.md"],
    "docs/zh/settings.md": ["docs/reference/settings.md"],
    "docs/zh/sizing.md": ["docs/how-to/sizing.md"],
    "docs/zh/tasks.md": ["docs/how-to/tasks.md"],
    "docs/zh/testing.md": ["docs/how-to/testing.md"],
    "docs/zh/time-limits.md": ["docs/how-to/time-limits.md"],
    "docs/zh/time-of-a-task.md": ["docs/how-to/time-of-a-task.md"],
    "docs/zh/tutorial.md": ["docs/tutorial.md"],
    "docs/zh/types.md": ["docs/how-to/types.md"],
    "docs/zh/workflows.md": ["docs/how-to/workflows.md"],
}


def blocks(page: str) -> list[str]:
    """The code blocks of a page, with the marks above them."""
    return FENCE.findall((ROOT / page).read_text("utf-8"))


def names(page: str) -> set[str]:
    """Settings, functions and the like in backquotes, outside of code blocks."""
    prose = FENCE.sub("", (ROOT / page).read_text("utf-8"))
    return {name for name in re.findall(r"`([^`\n]+)`", prose) if re.fullmatch(r"[A-Z_]{6,}", name)}


@pytest.mark.parametrize("page", ORIGINALS)
def test_blocks_are_those_of_the_original(page: str) -> None:
    assert blocks(page) == [block for original in ORIGINALS[page] for block in blocks(original)]


@pytest.mark.parametrize("page", ORIGINALS)
def test_settings_in_the_text_are_those_of_the_original(page: str) -> None:
    assert names(page) == {name for original in ORIGINALS[page] for name in names(original)}


def outline(page: str) -> list[str]:
    """What a page is made of, in its order: headings, paragraphs, lists and tables with their lengths, code."""
    prose = FENCE.sub("\n```\n", (ROOT / page).read_text("utf-8"))
    # What leads to pages of either language differs.
    prose = re.split(r"^## (?:Documentation|文档)$", prose, flags=re.MULTILINE)[0]
    found: list[str] = []
    for part in re.split(r"\n\s*\n", prose):
        lines = part.strip().splitlines()
        text = [line for line in lines if not re.match(r"\s*- |\d+\. |\||  ", line)]
        if text and not TO_THE_OTHER.fullmatch(" ".join(text)):
            kinds = (("#", "heading"), ("```", "code"), ("", "paragraph"))
            found.append(next(kind for start, kind in kinds if text[0].startswith(start)))
        for kind, start in (("items", r"\s*- |\d+\. "), ("rows", r"\|")):
            if count := sum(bool(re.match(start, line)) for line in lines):
                found.append(f"{count} {kind}")
    return found


@pytest.mark.parametrize("page", ORIGINALS)
def test_parts_are_those_of_the_original(page: str) -> None:
    parts = outline(page)
    if len(ORIGINALS[page]) > 1:
        parts.remove("heading")  # of both together

    assert parts == [part for original in ORIGINALS[page] for part in outline(original)]


@pytest.mark.parametrize("page", ORIGINALS)
def test_page_links_to_its_original(page: str) -> None:
    path = ROOT / page
    linked = {(path.parent / target).resolve() for target in LINK.findall(path.read_text("utf-8"))}
    assert linked >= {ROOT / original for original in ORIGINALS[page]}


def test_every_chinese_page_is_compared() -> None:
    pages = {*ROOT.glob("*.zh.md"), *(ROOT / "docs" / "zh").glob("*.md")}

    assert {str(page.relative_to(ROOT)) for page in pages} == set(ORIGINALS)


def texts_of_settings() -> set[str]:
    """Everything that the page of settings says in English, descriptions of all fields included."""
    texts: set[str] = set()

    def collect(text: str) -> str:
        texts.add(text)
        return text

    settings_page(collect)
    return texts


def test_every_text_about_settings_is_translated() -> None:
    texts, translated = texts_of_settings(), set(chinese())

    assert texts - translated == set(), "translate these in docs/zh/settings.toml"
    assert translated - texts == set(), "nothing says these any more: docs/zh/settings.toml"


def test_texts_about_settings_name_the_same_settings_and_code() -> None:
    def named(text: str) -> tuple[set[str], list[str]]:
        return set(re.findall(r"[A-Z_]{5,}", text)), sorted(re.findall(r"`[^`]+`", text))

    texts = chinese().items()

    assert [english for english, translation in texts if named(english) != named(translation)] == []
