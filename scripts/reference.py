"""Generate the reference pages of the documentation from the code that they describe.

Everything is read from the source text, so the pages show annotations as they were
written. ``scripts/docs.py`` writes the pages and checks whether they are stale.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from celery.app.defaults import DEFAULTS
from scripts import drawings, internals
from typing_extensions import override

from tomskit import TomsKitBaseSettings, errors
from tomskit.celery import CeleryConfig
from tomskit.redis import RedisConfig
from tomskit.sqlalchemy import DatabaseConfig

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCE: Final = ROOT / "src"
RUFF: Final = Path(sys.executable).parent / "ruff"

NOTICE: Final = "<!-- Written by scripts/docs.py from the code. -->"

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.AnnAssign | ast.Assign


def pages() -> dict[str, str]:
    """Every generated page and drawing, by its path below docs/."""
    return {
        "reference/settings.md": settings_page(),
        "zh/settings.md": settings_page(in_chinese, "[English](../reference/settings.md)"),
        "reference/errors.md": errors_page(),
        "reference/api.md": api_page(),
        "reference/internals.md": internals_page(),
        **{
            f"images/{source.stem}.svg": drawings.drawing(source)
            for source in sorted((ROOT / "docs" / "images").glob("*.txt"))
        },
        "images/badges.svg": drawings.badges(facts()),
    }


def facts() -> dict[str, str]:
    """What the badges of the README say, from the files that decide it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = [
        found[1]
        for classifier in project["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier))
    ]
    celery = next(one for one in project["dependencies"] if re.match(r"celery\W", one))
    coverage = re.search(
        r"^COVERAGE := (\d+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    assert coverage is not None
    return {
        "Python": " | ".join(pythons),
        "Celery": celery.removeprefix("celery").replace(">=", ">= "),
        "types": "mypy and pyright strict",
        "coverage": f">= {coverage[1]} %",
        "license": project["license"],
    }


# -- reading source text


@cache
def syntax_tree(module: str) -> ast.Module:
    """The syntax tree of a module of the package."""
    return ast.parse(source_file(module).read_text(encoding="utf-8"))


def source_file(module: str) -> Path:
    """The file of a module of the package."""
    path = SOURCE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def statements(body: Iterable[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """Statements, including those for type checkers only, with the docstring below each."""
    nodes: list[ast.stmt] = []
    for node in body:
        # The run-time branch has no types.
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.body
        else:
            nodes.append(node)
    for number, node in enumerate(nodes):
        after = nodes[number + 1] if number + 1 < len(nodes) else None
        yield node, text_of(after)


def text_of(node: ast.stmt | None) -> str:
    """The text of a statement that is only a string."""
    if (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ):
        return inspect.cleandoc(node.value.value)
    return ""


def name_of(node: ast.stmt) -> str | None:
    """The name that a statement defines."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case _:
            return None


def origin(module: str, name: str) -> str:
    """The module that defines a name that `module` exports."""
    for node, _ in statements(syntax_tree(module).body):
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return node.module or module
    return module


def find(module: str, name: str) -> tuple[Definition, str]:
    """Find the definition of an exported name, and its description.

    Raises:
        LookupError: There is none.
    """
    for node, below in statements(syntax_tree(origin(module, name)).body):
        if name_of(node) != name or is_overload(node):
            continue
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            return node, ast.get_docstring(node) or ""
        if isinstance(node, (ast.AnnAssign, ast.Assign)):
            return node, below
    raise LookupError(f"{module} exports {name!r}, which is not defined there")


def decorators(node: ast.stmt) -> set[str]:
    """The decorators of a definition."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return {ast.unparse(decorator) for decorator in node.decorator_list}
    return set()


def is_overload(node: ast.stmt) -> bool:
    """Whether the definition is an overload."""
    return "overload" in decorators(node)


def exported(module: str) -> list[str]:
    """The public names of a module."""
    names: tuple[str, ...] = importlib.import_module(module).__all__
    return list(names)


# -- writing Markdown


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a ``|`` in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def prose(text: str) -> str:
    """A docstring's text as Markdown, with single backticks."""
    return text.replace("``", "`")


def sentence(text: str) -> str:
    """A text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


SECTIONS: Final[Mapping[str, str]] = {
    "Args:": "Arguments",
    "Raises:": "Raises",
    "Returns:": "Returns",
    "Attributes:": "Attributes",
}


def description(docstring: str) -> str:
    """A Google style docstring as Markdown."""
    parts: list[str] = []
    for paragraph in re.split(r"\n\s*\n", docstring.strip()):
        head, _, rest = paragraph.partition("\n")
        if head in SECTIONS:
            parts.append(f"{SECTIONS[head]}:\n\n{entries(textwrap.dedent(rest))}")
        else:
            parts.append(prose(paragraph))
    return "\n\n".join(parts)


def entries(text: str) -> str:
    """The entries of a docstring's section as a list."""
    if not re.match(r"[*\w.]+: ", text):
        return prose(text)
    items: list[str] = []
    for line in text.splitlines():
        name, colon, rest = line.partition(": ")
        if colon and not line.startswith(" "):
            items.append(f"- `{name}`: {prose(rest)}")
        else:
            items[-1] += f" {prose(line.strip())}"
    return "\n".join(items)


def code(text: str) -> str:
    """A block of Python, formatted by ruff."""
    done = subprocess.run(
        [str(RUFF), "format", "--quiet", "--stdin-filename=reference.py", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return f"```python\n{done.stdout.strip()}\n```"


def join(parts: Iterable[str]) -> str:
    """Join the parts of a page with empty lines."""
    return "\n\n".join(part for part in parts if part) + "\n"


# -- settings

Field = tuple[str, str, str, str, str]
"""Group, name, type, default, description."""

CELERY_NAMES: Final[Sequence[tuple[str, str]]] = [
    (r"CELERY_BROKER_REDIS_(USE_SSL|SSL_\w+)", "broker_use_ssl"),
    (r"CELERY_BROKER_REDIS_\w+", "broker_url"),
    (
        r"CELERY_BROKER_(VISIBILITY_TIMEOUT|SOCKET_\w+|HEALTH_CHECK_INTERVAL)",
        "broker_transport_options",
    ),
    (r"CELERY_RESULT_SOCKET_TIMEOUT", "redis_socket_timeout"),
    (r"CELERY_RESULT_SOCKET_CONNECT_TIMEOUT", "redis_socket_connect_timeout"),
    (r"CELERY_RESULT_SOCKET_KEEPALIVE", "redis_socket_keepalive"),
    (r"CELERY_RESULT_HEALTH_CHECK_INTERVAL", "redis_backend_health_check_interval"),
    (r"CELERY_(USE_SENTINEL|SENTINELS)", "broker_url, result_backend"),
    (
        r"CELERY_SENTINEL_\w+",
        "broker_transport_options, result_backend_transport_options",
    ),
    (r"CELERY_RESULT_BACKEND_REDIS_(USE_SSL|SSL_\w+)", "redis_backend_use_ssl"),
    (r"CELERY_RESULT_BACKEND_(TYPE|REDIS_\w+|DATABASE_URI_SCHEME)", "result_backend"),
    (r"CELERY_BEAT_ENTRIES", "beat_schedule"),
    # Settings of tomskit only: the database and the Redis of tasks, and the asyncio pool.
    (r"CELERY_(DB|SQLALCHEMY|WORKER_REDIS)_\w+", ""),
    (r"CELERY_WORKER_(SYNC_CONCURRENCY|SLOW_CALLBACK_DURATION|HEALTH_FILE|LEAN_PATH)", ""),
    (r"CELERY_(REDIS_FAST_PATH|FETCH_BYTES|OUTBOX_INTERVAL|ONCE_KEEP)", ""),
    (r"CELERY_RESULT_ERROR_MODULES", ""),
]

PYDANTIC_TYPES: Final[Mapping[str, str]] = {
    "PositiveInt": "A whole number from 1 on.",
    "FiniteFloat": "A number, neither infinite nor NaN.",
    "NonNegativeInt": "A whole number from 0 on.",
    "CertificateCheck": 'One of `"required"`, `"optional"`, `"none"`.',
}


CHINESE: Final = ROOT / "docs" / "zh" / "settings.toml"
"""What the page of settings says in English, and the same in Chinese."""

Translate = Callable[[str], str]


@cache
def chinese() -> Mapping[str, str]:
    """The texts of the page of settings in Chinese, by the English ones."""
    return tomllib.loads(CHINESE.read_text(encoding="utf-8"))


def in_chinese(text: str) -> str:
    """A text in Chinese; in English where nobody has translated it, which a test reports."""
    return chinese().get(text, text)


INTRODUCTION: Final = (
    (
        "Three classes hold all settings, and every field is also an environment variable of the "
        "same name. Constructor arguments override the environment, which overrides the file `.env` "
        "or the one that `TOMSKIT_ENV_FILE` names, which overrides the defaults; see "
        "[Configuration](../how-to/configuration.md). "
        "An invalid value raises pydantic's "
        "`ValidationError`, which names the field and never shows the value."
    ),
    (
        "- [CeleryConfig](#celeryconfig): the worker, and optionally the database and the "
        "Redis of its tasks\n"
        "- [DatabaseConfig](#databaseconfig): the database of `db.session`\n"
        "- [RedisConfig](#redisconfig): the Redis of `redis_client`\n"
        "- [Types](#types)"
    ),
    (
        "The database of a worker is, in this order, the `database` argument of `AsyncCelery`; the "
        "`CELERY_DB_` and `CELERY_SQLALCHEMY_` fields, if any of them is set; "
        "`DatabaseConfig()`, which reads the variables without `CELERY_`. The Redis of "
        "`redis_client` is, in this order, the `redis` argument; the `CELERY_WORKER_REDIS_` "
        "fields, if any of them is set; `RedisConfig()`."
    ),
)


def settings_page(say: Translate = str, original: str = "") -> str:
    """Every field of every configuration class.

    Args:
        say: Translates the texts.
        original: A link to the page in English.
    """
    classes: list[tuple[type[TomsKitBaseSettings], str]] = [
        (CeleryConfig, "CELERY_"),
        (DatabaseConfig, ""),
        (RedisConfig, ""),
    ]
    parts = [
        NOTICE,
        f"# {say('Settings')}",
        original,
        *map(say, INTRODUCTION),
    ]
    types: set[str] = set()
    for config, prefix in classes:
        fields = list(fields_of(config))
        types |= {word for field in fields for word in re.findall(r"\w+", field[2])}
        parts.append(f"## {config.__name__}")
        parts += map(say, re.split(r"\n\n", unwrapped(description(inspect.getdoc(config) or ""))))
        for group in dict.fromkeys(field[0] for field in fields):
            if group:
                parts.append(f"### {say(sentence(group))}")
            rows = [field[1:] for field in fields if field[0] == group]
            parts.append(field_table(rows, say, with_celery=bool(prefix)))
        parts.append(f"### {say(f'Computed from {config.__name__}')}")
        parts.append(properties_table(config, say))
    parts += [f"## {say('Types')}", types_table(types, say)]
    return join(parts)


def unwrapped(text: str) -> str:
    """A text with each of its paragraphs in one line."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text)


def fields_of(config: type[TomsKitBaseSettings]) -> Iterator[Field]:
    """The fields of a configuration class, in the groups of the source."""
    # Pydantic collects them in the same order.
    for part in reversed(parts_of(config)):
        yield from _own_fields(part)


def _own_fields(config: type[TomsKitBaseSettings]) -> Iterator[Field]:
    lines = source_file(config.__module__).read_text(encoding="utf-8").splitlines()
    node = class_of(config)
    group = ""
    last = node.lineno
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            for line in lines[last : statement.lineno]:
                found = re.fullmatch(r"\s*# -- (.*)", line)
                group = found[1] if found else group
            last = statement.lineno
            name = statement.target.id
            if ast.unparse(statement.annotation).startswith("ClassVar"):
                continue
            info = config.model_fields[name]
            kind = ast.unparse(_WithoutMetadata().visit(statement.annotation))
            if not info.description:
                raise LookupError(f"{config.__name__}.{name} has no description")
            yield group, info.alias or name, kind, literal(info.default), info.description


def parts_of(config: type[TomsKitBaseSettings]) -> list[type[TomsKitBaseSettings]]:
    """A configuration class and the private base classes that hold its fields."""
    return [
        part
        for part in config.__mro__
        if issubclass(part, TomsKitBaseSettings) and part is not TomsKitBaseSettings
    ]


def class_of(config: type[TomsKitBaseSettings]) -> ast.ClassDef:
    """The definition of a configuration class."""
    node, _ = find(config.__module__, config.__name__)
    assert isinstance(node, ast.ClassDef)
    return node


class _WithoutMetadata(ast.NodeTransformer):
    """Replaces ``Annotated[X, ...]`` by ``X``."""

    @override
    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if (
            isinstance(node.value, ast.Name)
            and node.value.id == "Annotated"
            and isinstance(node.slice, ast.Tuple)
        ):
            return node.slice.elts[0]
        return node


def literal(value: object) -> str:
    """A default as a Python literal."""
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("'", '"')


def field_table(rows: Iterable[Sequence[str]], say: Translate, *, with_celery: bool) -> str:
    """A table of fields."""
    head = [say(word) for word in ("Setting and type", "Default", "Description")]
    lines: list[list[str]] = []
    for name, kind, default, text in rows:
        about = say(text)
        if with_celery and (names := celery_name(name)):
            sets = ", ".join(f"`{one}`" for one in names.split(", "))
            about += f"<br>{say('In Celery:')} {sets}"
        lines.append([f"`{name}`<br>`{kind}`", f"`{default}`", about])
    return table(head, lines)


def celery_name(field: str) -> str:
    """The names of Celery's settings that a field of CeleryConfig sets.

    Raises:
        LookupError: They are not known.
    """
    own = field.removeprefix("CELERY_").lower()
    if own in DEFAULTS:
        return own
    for pattern, names in CELERY_NAMES:
        if re.fullmatch(pattern, field):
            return names
    raise LookupError(f"{field} sets nothing of Celery that scripts/reference.py knows")


def properties_table(config: type[TomsKitBaseSettings], say: Translate) -> str:
    """What a configuration class computes from its fields."""
    rows: list[list[str]] = []
    for member in (member for part in parts_of(config) for member in class_of(part).body):
        if (
            isinstance(member, ast.FunctionDef)
            and "property" in decorators(member)
            and member.name.isupper()
        ):
            kind = "" if member.returns is None else ast.unparse(member.returns)
            text = unwrapped(prose((ast.get_docstring(member) or "").partition("\n\n")[0]))
            rows.append([f"`{member.name}`", f"`{kind}`", say(text)])
    return table([say(word) for word in ("Property", "Type", "Description")], rows)


def types_table(names: set[str], say: Translate) -> str:
    """A table of the types in the type columns."""
    known = dict(PYDANTIC_TYPES)
    for module in (
        "tomskit.settings",
        "tomskit.redis.config",
        "tomskit.sqlalchemy.config",
        "tomskit.celery._settings.urls",
    ):
        for node, below in statements(syntax_tree(module).body):
            name = name_of(node)
            if name is not None and isinstance(node, ast.Assign) and below:
                known[name] = prose(below)
            elif isinstance(node, ast.ClassDef) and node.name in names:
                known[node.name] = prose(ast.get_docstring(node) or "")
    unknown = {
        name
        for name in names - known.keys()
        if name[0].isupper() and name not in {"None", "Literal"} and not hasattr(builtins, name)
    }
    if unknown:
        raise LookupError(f"Nothing describes the types {', '.join(sorted(unknown))}")
    rows = [[f"`{name}`", say(unwrapped(known[name]))] for name in sorted(names & known.keys())]
    return table([say("Type"), say("Meaning")], rows)


# -- errors


def errors_page() -> str:
    """Every error, and what raises it."""
    raised_by = raisers()
    parts = [
        NOTICE,
        "# Errors",
        (
            "Every error of tomskit is a `tomskit.TomsKitError` and also an instance of a matching "
            "built-in class, so code that catches `RuntimeError`, `TypeError` or "
            "`ValueError` catches them too. Each message names the cause and the line of code that "
            "fixes it. All are in `tomskit.errors`."
        ),
    ]
    rows: list[list[str]] = []
    details: list[str] = []
    for name in errors.__all__:
        node, docstring = find("tomskit.errors", name)
        assert isinstance(node, ast.ClassDef)
        bases = [ast.unparse(base) for base in node.bases if ast.unparse(base) != "TomsKitError"]
        rows.append(
            [f"[`{name}`](#{name.lower()})", ", ".join(f"`{base}`" for base in bases), docstring]
        )
        details += [f"## {name}", description(docstring)]
        if name in raised_by:
            who = "\n".join(f"- `{one}`" for one in raised_by[name])
            details.append(f"Raised by:\n\n{who}")
    short = [[*row[:2], prose(row[2].partition("\n")[0])] for row in rows]
    parts += [table(["Error", "Also", "When"], short), *details]
    return join(parts)


def raisers() -> dict[str, list[str]]:
    """Map each error to the public functions whose docstrings name it."""
    found: dict[str, list[str]] = {}
    for module, names in PUBLIC:
        for name in names or exported(module):
            node, docstring = find(module, name)
            described = [(name, docstring)]
            if isinstance(node, ast.ClassDef):
                described += [
                    (f"{name}.{member.name}", ast.get_docstring(member) or "")
                    for member, _ in statements(node.body)
                    if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef))
                ]
            for who, text in described:
                section = re.search(r"^Raises:\n((?:    .*\n?)+)", text, re.MULTILINE)
                for error in re.findall(
                    r"^    (\w+): ", section[1] if section else "", re.MULTILINE
                ):
                    if who not in found.setdefault(error, []):
                        found[error].append(who)
    return found


# -- names of others that are not public


def internals_page() -> str:
    """The names of other packages that are not public and are relied on."""
    parts = [
        NOTICE,
        "# Internals of other packages",
        (
            "tomskit changes no class and no module of Celery, kombu or redis-py, but it hooks into "
            "them. It derives from their classes and overrides methods that are not public. It reads "
            "and sets attributes that no documentation promises: of an app and its result backends, of "
            "a worker, and of the stacks behind `celery.current_task`, which are there for all apps of "
            "a process. And it relies on what some of these mean. A release of these packages may "
            "change any of that without notice."
        ),
        (
            "This page lists what is relied on: what each name is for, and what happens in a release "
            "that does not have it any more. Most fail at once, by an error when a worker starts or a "
            "task is sent; where nothing fails, the last column says what is different. The source "
            "declares them in the packages called `_internals`; elsewhere, classes only override what "
            "is declared there. The test suite has a test for each, which fails with its name when a "
            "release has changed it."
        ),
    ]
    package = ""
    for part in internals.parts():
        if part.package != package:
            package = part.package
            parts.append(f"## {package}")
        parts.append(f"{sentence(prose(part.topic))}:")
        rows = [
            [prose(one.text), sentence(prose(one.purpose)), sentence(prose(one.effect))]
            for one in part.entries
        ]
        parts.append(table(["Name", "For", "When it is missing"], rows))
    return join(parts)


# -- public names

PUBLIC: Final[Sequence[tuple[str, Sequence[str]]]] = [
    ("tomskit.celery", ()),
    ("tomskit.celery.options", ()),
    ("tomskit.sqlalchemy", ()),
    ("tomskit.sqlalchemy.database", ["db", "Database", "SessionScope"]),
    ("tomskit.redis", ()),
    ("tomskit.redis.redis_pool", ["redis_client"]),
    ("tomskit.protocols", ()),
    ("tomskit.testing", ()),
    ("tomskit.celery.serializers", ["OrjsonSerializer"]),
    ("tomskit", ["TomsKitBaseSettings"]),
]
"""Modules to import from, with the names to show; an empty list shows all that a module exports."""

SETTINGS: Final[Mapping[str, type[TomsKitBaseSettings]]] = {
    config.__name__: config for config in (CeleryConfig, DatabaseConfig, RedisConfig)
}

INTERNAL: Final = frozenset(
    {
        "AsyncCelery.name_defaults",
        "AsyncCelery.resources",
        "AsyncTask.bind",
        "AsyncCelery.runtime_host",
        "AsyncCelery.set_current",
        "AsyncRuntime.enforce_limits",
        "CeleryConfig.variable_prefixes",
        "CeleryConfig.remark_on_redis",
        "CeleryConfig.remark_on_results",
        "CeleryConfig.remarks_on",
        "CeleryConfig.sets_any",
        "CeleryConfig.variables_of_others",
        "DatabaseConfig.mysql_port_is_missing",
        "DatabaseConfig.variable_prefixes",
        "DatabaseConfig.variables_of_others",
        "RedisConfig.variable_prefixes",
        "TomsKitBaseSettings.remarks_on",
        "TomsKitBaseSettings.variable_prefixes",
        "TomsKitBaseSettings.settings_customise_sources",
        "TomsKitBaseSettings.variables_of_others",
        "Database.__init__",
        "Database.close",
        "Database.open",
        "SessionScope.__init__",
    }
)
"""Members that only other modules of the package use."""

UNSHOWN: Final = frozenset({"AsyncApp"})
"""Private base classes whose members are all overridden, or are for other modules of the package."""

NOTES: Final[Mapping[str, str]] = {
    "AsyncTask.delay": "Send the task to a worker.",
    "AsyncTask.aapply_async": "As `apply_async`, without blocking the running event loop.",
    "AsyncTask.delay_on_commit": (
        "Send the task when the transaction of `db.session` is committed. The message is written in "
        "that transaction. Needs a session: in a task, or under `async with db.scope()`."
    ),
    "AsyncTask.adelay_on_commit": "The same as `delay_on_commit`.",
    "AsyncTask.adelay": "Send the task to a worker without blocking the running event loop.",
    "AsyncTask.s": (
        "A signature: complete, or partial if the first argument is missing, which the task "
        "before it in a chain provides."
    ),
    "AsyncTask.si": "A complete signature that ignores the result of the task before it.",
    "AsyncTask.p": "A partial signature: all arguments but the first.",
    "AsyncTask.run": (
        "The task itself. A class with an `async def run` is a task when it is registered: "
        "`app.register_task(Charge())`."
    ),
    "AsyncTask.before_start": "A hook, plain or `async def`: called before the function.",
    "AsyncTask.on_success": "A hook, plain or `async def`: called with what is stored as the result.",
    "AsyncTask.on_retry": "A hook, plain or `async def`: called when the task is to be tried again.",
    "AsyncTask.on_failure": "A hook, plain or `async def`: called when the task has failed.",
    "AsyncTask.after_return": "A hook, plain or `async def`: called last, whatever the outcome.",
    "TaskCall.delay": "Send the task to a worker, with the options.",
    "TaskCall.delay_on_commit": (
        "Send the task with the options when the transaction of `db.session` is committed."
    ),
    "TaskCall.adelay_on_commit": "The same as `delay_on_commit`.",
    "TaskCall.adelay": "Send the task with the options, without blocking the running event loop.",
    "TaskCall.s": "A complete signature, with the options.",
    "TaskCall.si": "A complete signature with the options that ignores the result of the task before it.",
    "tomskit.celery.options": "The options of the decorators besides `bind`, `base` and `every`, and "
    "of calls. "
    "Options that are misspelt or of the wrong type are errors for type checkers.",
}
"""Descriptions of members without a docstring, for which editors show that of the user's function."""


def api_page() -> str:
    """Every public name with its signature and description."""
    parts = [
        NOTICE,
        "# Public names",
        (
            "The names on this page are public; everything else may change without notice. Signatures "
            "are copied from the source. The fields of the configuration classes are in "
            "[Settings](settings.md), the error classes in [Errors](errors.md)."
        ),
        "\n".join(
            f"- [{module}](#{module.replace('.', '')}): "
            + ", ".join(f"[{name}](#{name.lower()})" for name in names or exported(module))
            for module, names in PUBLIC
        ),
    ]
    for module, names in PUBLIC:
        parts += [f"## {module}", NOTES.get(module, "")]
        for name in names or exported(module):
            parts += [f"### {name}", *entry(module, name)]
    return join(parts)


def entry(module: str, name: str) -> Iterator[str]:
    """The parts of the page that describe one public name."""
    node, docstring = find(module, name)
    match node:
        case ast.ClassDef():
            if any(base.startswith("TypedDict") for base in public_bases(module, node)):
                yield description(docstring)
                yield options_table(members(module, node))
                return
            yield code(class_line(module, node))
            yield description(docstring)
            if name in SETTINGS:
                yield f"Its fields: [Settings](settings.md#{name.lower()})."
            overloads: dict[str | None, list[str]] = {}
            for member, below in statements(members(module, node)):
                if isinstance(member, ast.FunctionDef) and is_overload(member):
                    overloads.setdefault(member.name, []).append(f"@overload\n{signature(member)}")
                else:
                    known = overloads.get(name_of(member), [])
                    yield from member_parts(name, member, below, known)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield code("\n".join(signatures(module, name)))
            yield description(docstring)
        case ast.AnnAssign():
            yield code(f"{name}: {ast.unparse(type_of_final(node))}")
            yield description(docstring)
        case _:
            yield description(docstring)


def members(module: str, node: ast.ClassDef) -> list[ast.stmt]:
    """What a class consists of, with what it has from private base classes of ours."""
    if node.name in SETTINGS:
        return [member for part in parts_of(SETTINGS[node.name]) for member in class_of(part).body]
    own = {name_of(member) for member, _ in statements(node.body)} - {None}
    inherited: list[ast.stmt] = []
    for base in private_bases(module, node):
        for member, below in statements(members(origin(module, node.name), base)):
            if name_of(member) not in own and not isinstance(member, ast.Expr):
                inherited.append(member)
                if below:
                    inherited.append(ast.Expr(ast.Constant(below)))
    return [*node.body, *inherited]


def private_bases(module: str, node: ast.ClassDef) -> list[ast.ClassDef]:
    """The base classes of a class that are ours and stand on no page of their own."""
    home = origin(module, node.name)
    public = {name for one, names in PUBLIC for name in names or exported(one)}
    names = [ast.unparse(base).partition("[")[0] for base in node.bases]
    return [
        base
        for name in names
        if name not in public | UNSHOWN
        and (origin(home, name) != home or defines(home, name))
        and origin(home, name).startswith("tomskit.")
        and isinstance(base := find(home, name)[0], ast.ClassDef)
    ]


def defines(module: str, name: str) -> bool:
    """Whether a module defines a class of this name."""
    return any(
        isinstance(node, ast.ClassDef) and node.name == name for node in syntax_tree(module).body
    )


def type_of_final(node: ast.AnnAssign) -> ast.expr:
    """The type of a name that is declared ``Final``, with or without its type."""
    if isinstance(node.annotation, ast.Subscript):
        return node.annotation.slice
    if isinstance(node.value, ast.Call):
        return node.value.func
    return node.annotation


def class_line(module: str, node: ast.ClassDef) -> str:
    """A class with its public base classes and its constructor's signature."""
    bases = ", ".join([*public_bases(module, node), *map(ast.unparse, node.keywords)])
    if node.name in SETTINGS:
        bases = TomsKitBaseSettings.__name__
    head = f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            if f"{node.name}.__init__" in INTERNAL:
                break
            return f"{head}\n    {signature(member)}"
    return f"{head} ..."


def public_bases(module: str, node: ast.ClassDef) -> list[str]:
    """The base classes of a class; of a private one of ours, what that is made of."""
    private = {base.name: base for base in private_bases(module, node)}
    shown: list[str] = []
    for base in map(ast.unparse, node.bases):
        name = base.partition("[")[0]
        if name in private:
            shown += public_bases(origin(module, node.name), private[name])
        else:
            shown.append("Celery" if name in UNSHOWN else base)
    # Generic comes last, once.
    return [base for base in shown if not base.startswith("Generic")] + [
        base for base in map(ast.unparse, node.bases) if base.startswith("Generic")
    ]


def signatures(module: str, name: str) -> Iterator[str]:
    """All signatures of a function: its overloads, if there are any."""
    found = [
        node
        for node in syntax_tree(origin(module, name)).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name
    ]
    overloads = [node for node in found if is_overload(node)]
    for node in overloads or found:
        yield ("@overload\n" if overloads else "") + signature(node)


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The signature of a function as code."""
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    return f"{kind} {node.name}({ast.unparse(node.args)}){returns}: ..."


def member_parts(
    owner: str, member: ast.stmt, below: str, overloads: Sequence[str]
) -> Iterator[str]:
    """The parts of the page that describe a member of a class."""
    name = name_of(member)
    if name is None or name.startswith("_") or f"{owner}.{name}" in INTERNAL:
        return
    if owner in SETTINGS and name.isupper():
        return
    if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)):
        text = ast.get_docstring(member) or NOTES.get(f"{owner}.{name}", "")
        if not text and "override" in decorators(member):
            text = "As in Celery, with more precise types."
        if not text:
            raise LookupError(f"Nothing describes {owner}.{name}")
        shown = [f"@{one}" for one in sorted(decorators(member) & {"property", "classmethod"})]
        if "cached_property" in decorators(member):
            shown.append("@property")
        yield f"#### {owner}.{name}"
        yield code("\n".join([*shown, *(overloads or [signature(member)])]))
        yield description(text)
    elif isinstance(member, ast.AnnAssign) and below:
        yield f"#### {owner}.{name}"
        yield code(f"{name}: {ast.unparse(member.annotation)}")
        yield description(below)


def options_table(body: Iterable[ast.stmt]) -> str:
    """The keys of a TypedDict."""
    rows = [
        [f"`{name_of(member)}`", f"`{ast.unparse(member.annotation)}`", prose(below)]
        for member, below in statements(body)
        if isinstance(member, ast.AnnAssign)
    ]
    return table(["Option", "Type", "Meaning"], rows)
