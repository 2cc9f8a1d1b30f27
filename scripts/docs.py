"""Write the generated pages of the documentation, and check all of it.

``--check`` reports stale generated pages and links and settings that do not exist, and checks every
code block of the README and the documentation:

* Python is type-checked under mypy strict. The blocks of a page form one module, so they share their
  names. A block whose first line is a comment with a file name, such as ``# tasks.py``, is that file,
  which the page's other blocks can import. ``# tasks.py: add`` continues it, ``# tasks.py: replace``
  is all of it from then on.
* A block below ``<!-- run -->`` is also run, a block below ``<!-- run: pytest -->`` by pytest. A
  ``text`` block below ``<!-- output -->`` must equal what the block before has printed.
* In shell blocks the programs, their options, the files, the make targets and the extras must
  exist. TOML, JSON, YAML, INI and Dockerfiles must parse.

``--write`` writes the generated pages. Usage: python -m scripts.docs --check | --write
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, cast

import click
import yaml
from celery.bin.celery import celery
from celery.bin.worker import worker
from scripts import reference
from typing_extensions import override

from tomskit.celery import CeleryConfig
from tomskit.celery._internals.celery_command import variables_of_celery
from tomskit.redis import RedisConfig
from tomskit.sqlalchemy import DatabaseConfig

ROOT: Final = reference.ROOT
DOCS: Final = ROOT / "docs"
GENERATED: Final = frozenset(DOCS / name for name in reference.pages())
TRANSLATED: Final = DOCS / "zh"
SECONDS: Final = 300
"""How long a block may run, on a machine that does other things as well."""
PREFIXES: Final = ("CELERY_", "DB_", "SQLALCHEMY_", "REDIS_")


class Problem(NamedTuple):
    """An error and its place; the first line is 1."""

    path: Path
    line: int
    message: str

    @override
    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Block:
    """A code block."""

    path: Path
    line: int
    """The number of its first line of code."""
    language: str
    mark: str
    """The comment above it, such as ``run``."""
    code: str

    def problem(self, message: str, line: int = 0) -> Problem:
        """An error in one of its lines, counted from 0."""
        return Problem(self.path, self.line + line, message)

    @property
    def module(self) -> str:
        """The file that it is part of."""
        return self._named[0]

    @property
    def continues(self) -> str:
        """Whether it says that it adds to that file or replaces it."""
        return self._named[1]

    @property
    def _named(self) -> tuple[str, str]:
        found = re.match(r"# (\w+\.py)(?:: (add|replace))?\n", self.code)
        return (found[1], found[2] or "") if found else ("page.py", "")


@dataclass(frozen=True)
class Page:
    """A page of Markdown."""

    path: Path
    text: str
    blocks: Sequence[Block]

    @property
    def prose(self) -> str:
        """The text without its code blocks; line numbers stay the same."""
        return FENCE.sub(lambda found: "\n" * found[0].count("\n"), self.text)


FENCE: Final = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def read_page(path: Path) -> Page:
    """Read a page and find its code blocks."""
    text = path.read_text(encoding="utf-8")
    blocks = [
        Block(
            path,
            text.count("\n", 0, found.start("code")) + 1,
            found["language"],
            found["mark"] or "",
            found["code"],
        )
        for found in FENCE.finditer(text)
    ]
    return Page(path, text, blocks)


def all_pages() -> list[Page]:
    """Every page that a reader sees."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md"), *DOCS.rglob("*.md")]
    return [read_page(path) for path in sorted(paths)]


# -- generated pages


def stale_pages() -> Iterator[Problem]:
    """Generated pages that differ from what would be written now."""
    for name, text in reference.pages().items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield Problem(path, 1, "is stale: python -m scripts.docs --write")


def write_pages() -> None:
    """Write all generated pages."""
    for name, text in reference.pages().items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


# -- links and names


def broken_links(pages: Sequence[Page]) -> Iterator[Problem]:
    """Find links to missing files and headings, and pages that no page links to."""
    linked: set[Path] = set()
    for page in pages:
        prose = page.prose
        for found in re.finditer(r"\]\(([^)\s]+)\)", prose):
            line = prose.count("\n", 0, found.start()) + 1
            target, _, anchor = found[1].partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            path = (page.path.parent / target).resolve() if target else page.path
            linked.add(path)
            if not path.exists():
                yield Problem(page.path, line, f"there is no file {target}")
            elif anchor and anchor not in anchors(path):
                yield Problem(page.path, line, f"there is no heading #{anchor} in {path.name}")
    for page in pages:
        if page.path.is_relative_to(DOCS) and page.path not in linked:
            yield Problem(page.path, 1, "no page links to this one")


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", read_page(path).prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


CONFIGS: Final = (CeleryConfig, DatabaseConfig, RedisConfig)


def known_settings() -> set[str]:
    """Every field and every computed property of the configuration classes; what Celery reads."""
    known = {
        name
        for config in CONFIGS
        for name in (
            *dir(config),
            *(info.alias or field for field, info in config.model_fields.items()),
        )
        if name.startswith(PREFIXES)
    }
    return known | variables_of_celery()


def unknown_settings(pages: Sequence[Page]) -> Iterator[Problem]:
    """Find names that look like a setting but are none; ``CELERY_DB_`` is a prefix of several."""
    known = known_settings()
    for page in pages:
        if page.path.name == "CHANGELOG.md":
            continue  # it names removed settings
        for found in re.finditer(r"\b(?:CELERY|DB|SQLALCHEMY|REDIS)_[A-Z_]*", page.text):
            name = found[0]
            some = any(field.startswith(name) for field in known)
            # A name of an earlier system, or a setting of Celery's for which there is no field.
            explained = any(config.remarks_on([name]) for config in CONFIGS)
            if name not in known and not explained and not (name.endswith("_") and some):
                line = page.text.count("\n", 0, found.start()) + 1
                yield Problem(page.path, line, f"there is no setting {name}")


# -- Python


def unsaid_additions(pages: Sequence[Page]) -> Iterator[Problem]:
    """Find blocks with the name of an earlier file that do not say whether they add to it."""
    for page in pages:
        files: set[str] = set()
        for block in page.blocks:
            if block.language != "python" or block.module == "page.py":
                continue
            known = block.module in files
            if known and not block.continues:
                yield block.problem(f'write "# {block.module}: add", or "replace"')
            elif block.continues and not known:
                yield block.problem(f"{block.module} does not exist yet")
            files.add(block.module)


def python_problems(pages: Sequence[Page]) -> Iterator[Problem]:
    """Find type errors in Python blocks, and blocks that fail or print something else."""
    with TemporaryDirectory(prefix="tomskit-docs-") as name, ThreadPoolExecutor(2) as pool:
        folder = Path(name)
        checked: list[Page] = []
        for page in pages:
            if page.path.is_relative_to(TRANSLATED) or page.path.name.endswith(".zh.md"):
                continue  # tests/unit/test_translations.py compares these blocks with the originals
            if page.path in GENERATED:
                # These blocks are signatures, which the type checkers see in the source itself.
                yield from uncompilable(page)
            elif write_modules(page, folder / slug(page)):
                checked.append(page)
        wrong: set[Path] = set()
        for problem in sorted(type_errors(checked, folder)):
            wrong.add(problem.path)
            yield problem
        right = [page for page in checked if page.path not in wrong]
        for problems in pool.map(run_blocks, right, (folder / slug(page) for page in right)):
            yield from problems


def slug(page: Page) -> str:
    """A name of the page that Python takes for that of a module."""
    return re.sub(r"\W", "_", str(page.path.relative_to(ROOT)))


def uncompilable(page: Page) -> Iterator[Problem]:
    """Find Python blocks with a syntax error."""
    for block in page.blocks:
        if block.language == "python":
            try:
                compile(block.code, str(page.path), "exec", dont_inherit=True)
            except SyntaxError as error:
                yield block.problem(str(error))


def write_modules(page: Page, folder: Path) -> list[str]:
    """Write a page's Python to files, each line with the line number that it has in the page."""
    lines: dict[str, list[str]] = {}
    for block in page.blocks:
        if block.language == "python":
            if block.continues == "replace":
                lines[block.module] = []
            module = lines.setdefault(block.module, [])
            module += [""] * (block.line - 1 - len(module)) + block.code.splitlines()
    if lines:
        folder.mkdir()
    for name, text in lines.items():
        (folder / name).write_text("\n".join(text) + "\n", encoding="utf-8")
    return list(lines)


def type_errors(pages: Sequence[Page], folder: Path) -> Iterator[Problem]:
    """Run mypy once on the modules of all pages, and once more for each example with some.

    Most of what mypy does is to read what it knows of the packages that the modules import.
    """
    places: dict[Path | None, list[Page]] = {}
    for page in pages:
        example = page.path.parent if page.path.is_relative_to(ROOT / "examples") else None
        places.setdefault(example, []).append(page)
    for number, (example, its_pages) in enumerate(places.items()):
        modules = folder / f"types_{number}"
        modules.mkdir()
        yield from type_errors_in(modules, its_pages, [] if example is None else [example])


def type_errors_in(
    folder: Path, pages: Sequence[Page], more_paths: Sequence[Path]
) -> Iterator[Problem]:
    """Run mypy on the modules of pages, which get names that no other page has."""
    page_of: dict[str, Page] = {}
    for page in pages:
        written = sorted((folder.parent / slug(page)).glob("*.py"))
        for path in written:
            code = with_unique_names(path.read_text(encoding="utf-8"), page, written)
            page_of[f"{slug(page)}_{path.name}"] = page
            (folder / f"{slug(page)}_{path.name}").write_text(code, encoding="utf-8")
    settings = configparser.ConfigParser()
    settings.read(ROOT / "mypy.ini")
    paths = [ROOT / "src", ROOT / "stubs", folder, *more_paths]
    settings["mypy"]["mypy_path"] = ", ".join(map(str, paths))
    config = folder / "mypy.ini"
    with config.open("w", encoding="utf-8") as file:
        settings.write(file)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", str(config)),
            *("--cache-dir", str(ROOT / ".mypy_cache"), "--no-error-summary"),
            *page_of,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    for output in done.stdout.splitlines():
        found = re.match(r"(\w+\.py):(\d+): (?:error|note): (.*)", output)
        if found and found[1] in page_of:
            yield Problem(page_of[found[1]].path, int(found[2]), found[3])
        else:
            yield Problem(pages[0].path, 1, output)
    if done.returncode != 0 and not done.stdout:
        yield Problem(pages[0].path, 1, done.stderr)


def with_unique_names(code: str, page: Page, modules: Sequence[Path]) -> str:
    """Let the imports of a page's modules name them as they are among those of all pages."""
    names = "|".join(path.stem for path in modules)
    code = re.sub(
        rf"^( *from )({names})(?= import )", rf"\1{slug(page)}_\2", code, flags=re.MULTILINE
    )
    return re.sub(
        rf"^( *import )({names})(?= *(?:#|$))",
        rf"\1{slug(page)}_\2 as \2",
        code,
        flags=re.MULTILINE,
    )


def run_blocks(page: Page, folder: Path) -> list[Problem]:
    """Run the blocks that are marked, and compare their output."""
    problems: list[Problem] = []
    output: str | None = None
    for block in page.blocks:
        command = block.mark.partition("run")[2].lstrip(": ") if block.mark[:3] == "run" else None
        if command is not None:
            runner = (
                ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tomskit.testing.plugin"]
                if command
                else []
            )
            done = run_python([*runner, block.module], folder)
            output = done.stdout
            if done.returncode != 0:
                problems.append(block.problem(f"has failed:\n{done.stdout}{done.stderr}"))
        elif block.mark == "output":
            if output is None or output.strip() != block.code.strip():
                problems.append(block.problem(f"differs from the output:\n{output}"))
            output = None
    return problems


def run_python(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a page's folder, without settings of this environment."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(PREFIXES)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment
        | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error::RuntimeWarning"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


# -- shell


@dataclass(frozen=True)
class Place:
    """The folders and files that the commands of a page can use."""

    folders: Sequence[Path]
    files: frozenset[str]
    """Files that the page itself shows."""

    def has(self, path: str) -> bool:
        """Whether a command finds a file there."""
        return path in self.files or any((folder / path).exists() for folder in self.folders)


def shell_problems(pages: Sequence[Page]) -> Iterator[Problem]:
    """Find commands that use programs, options or files that do not exist."""
    for page in pages:
        files = frozenset(block.module for block in page.blocks if block.language == "python")
        place = Place([page.path.parent, ROOT, ROOT / "examples" / "quickstart"], files)
        for block in page.blocks:
            if block.language != "sh":
                continue
            code = block.code.replace("\\\n", "  ")
            for number, line in enumerate(code.splitlines()):
                for message in command_problems(shlex.split(line, comments=True), place):
                    yield block.problem(message, number)


def command_problems(words: list[str], place: Place) -> Iterator[str]:
    """Check one command."""
    while words and (words[0] == "export" or re.match(r"[A-Z_]+=", words[0])):
        words.pop(0)
    if not words:
        return
    program, *arguments = words
    if program not in COMMANDS:
        yield f"scripts/docs.py cannot check the program {program}"
        return
    yield from COMMANDS[program](arguments, place)


def make_problems(arguments: Sequence[str], _place: Place) -> Iterator[str]:
    """Find targets that the Makefile lacks."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for word in arguments:
        if "=" not in word and word not in targets:
            yield f"there is no make {word}"


def pip_problems(arguments: Sequence[str], _place: Place) -> Iterator[str]:
    """Find extras that the package lacks."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = cast("Mapping[str, Mapping[str, object]]", tomllib.loads(text))["project"]
    known = cast("Mapping[str, object]", project["optional-dependencies"])
    for word in arguments:
        for name in re.findall(r"\w+", word.partition("[")[2]):
            if name not in known:
                yield f"there is no extra {name}"


def python_command_problems(arguments: Sequence[str], place: Place) -> Iterator[str]:
    """Find missing files and modules."""
    match arguments:
        case ["-m", "pytest", *paths]:
            yield from (f"there is no file {path}" for path in paths if not place.has(path))
        case ["-m", module, *_]:
            if not place.has(module.replace(".", "/") + ".py"):
                yield f"there is no module {module}"
        case [script, *_]:
            if not place.has(script):
                yield f"there is no file {script}"
        case _:
            pass


def celery_problems(arguments: Sequence[str], place: Place) -> Iterator[str]:
    """Find options, commands and apps that Celery's command line does not know."""
    command: click.Command = cast("click.Command", celery)
    expects_app = False
    for word in arguments:
        if expects_app:
            expects_app = False
            if not place.has(word.partition(":")[0].replace(".", "/") + ".py"):
                yield f"there is no app {word}"
        elif word.startswith("-"):
            name = word.partition("=")[0]
            params = [*command.params, *(worker.params if command.name == "workers" else ())]
            known = {option for param in params for option in param.opts}
            if name not in known and (name.startswith("--") or name[:2] not in known):
                yield f"this celery command has no option {name}"
            expects_app = name in {"-A", "--app"} and "=" not in word
        elif isinstance(command, click.Group) and word in command.commands:
            command = command.commands[word]


def web_server_problems(arguments: Sequence[str], place: Place) -> Iterator[str]:
    """Find applications, such as ``web:api``, that are not there."""
    for word in arguments:
        found = re.fullmatch(r"([a-z_.]+):[a-z_]+", word)
        if found and not place.has(found[1].replace(".", "/") + ".py"):
            yield f"there is no application {word}"


def folder_problems(arguments: Sequence[str], place: Place) -> Iterator[str]:
    """Find missing folders."""
    for folder in arguments:
        if not place.has(folder):
            yield f"there is no folder {folder}"


def no_problems(_arguments: Sequence[str], _place: Place) -> Iterator[str]:
    """Accept every argument."""
    return iter(())


COMMANDS: Final[Mapping[str, Callable[[Sequence[str], Place], Iterator[str]]]] = {
    "make": make_problems,
    "pip": pip_problems,
    "python": python_command_problems,
    "celery": celery_problems,
    "flask": web_server_problems,
    "gunicorn": web_server_problems,
    "uvicorn": web_server_problems,
    "alembic": no_problems,
    "watchfiles": no_problems,
    "cd": folder_problems,
    "kill": no_problems,
    "test": no_problems,
}


# -- everything else


def data_problems(pages: Sequence[Page]) -> Iterator[Problem]:
    """Find blocks of other languages that do not parse, and blocks without a language."""
    parsers: dict[str, Callable[[str], object]] = {
        "toml": tomllib.loads,
        "json": json.loads,
        "ini": parse_ini,
        "yaml": yaml.safe_load,
        "dockerfile": parse_dockerfile,
        "text": str,
        "python": str,  # see python_problems
        "sh": str,  # see shell_problems
    }
    for page in pages:
        for block in page.blocks:
            parse = parsers.get(block.language)
            if parse is None:
                yield block.problem(
                    f"code blocks in the language {block.language!r} are not checked"
                )
                continue
            try:
                parse(block.code)
            except (ValueError, configparser.Error, yaml.YAMLError) as error:
                yield block.problem(str(error))


def parse_ini(text: str) -> None:
    """Parse a file such as a systemd unit, where keys may repeat."""
    configparser.ConfigParser(strict=False, interpolation=None).read_string(text)


INSTRUCTIONS: Final = frozenset({"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "CMD"})


def parse_dockerfile(text: str) -> None:
    """Check the instructions of a Dockerfile; its command must be a list, which needs no shell."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("#"):
            continue
        instruction, _, rest = line.partition(" ")
        if instruction not in INSTRUCTIONS:
            raise ValueError(f"{instruction} is no instruction of a Dockerfile")
        if instruction == "CMD":
            json.loads(rest)


def main() -> int:
    """Write or check the pages; the exit code is 0 if there are no problems."""
    match sys.argv[1:]:
        case ["--write"]:
            write_pages()
            return 0
        case ["--check"]:
            pass
        case _:
            print(__doc__)
            return 2
    pages = all_pages()
    problems = [
        *stale_pages(),
        *broken_links(pages),
        *unknown_settings(pages),
        *shell_problems(pages),
        *data_problems(pages),
        *unsaid_additions(pages),
        *python_problems(pages),
    ]
    for problem in problems:
        print(problem)
    blocks = [block for page in pages for block in page.blocks]
    counts = {
        language: sum(block.language == language for block in blocks)
        for language in sorted({block.language for block in blocks})
    }
    summary = ", ".join(f"{count} {language}" for language, count in counts.items())
    runs = sum(block.mark[:3] == "run" for block in blocks)
    print(
        f"{len(pages)} pages, {len(blocks)} code blocks ({summary}; {runs} run), "
        f"{len(problems)} problems"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
