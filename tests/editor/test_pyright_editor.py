"""What an editor shows of a task: its parameters and its author's own words, never the library's."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.language_server import VARIABLE, LanguageServer, SignatureInfo

EXAMPLE: Final = Path(__file__).with_name("example.py").read_text(encoding="utf-8")

# What a user types after the name of a task; the cursor is at the bar.
CALLS: Final = (
    ".delay(|",
    ".adelay(|",
    ".s(|",
    ".si(|",
    ".func(|",
    ".options(countdown=3).delay(|",
    ".options(countdown=3).adelay(|",
    ".options(countdown=3).s(|",
    ".options(countdown=3).si(|",
)

# Where the mouse is, after the name of a task.
MEMBERS: Final = (
    ".|delay",
    ".|adelay",
    ".|s",
    ".|si",
    ".|func",
    ".options(countdown=3).|delay",
    ".options(countdown=3).|adelay",
    ".options(countdown=3).|s",
    ".options(countdown=3).|si",
)

TASKS: Final = ("resize", "publish", "archive", "restore", "sweep", "count")

every_call = pytest.mark.parametrize("call", CALLS)
every_member = pytest.mark.parametrize("member", MEMBERS)


class Editor:
    """An editor with the example open, and lines typed at its end.

    The calls and members of all tasks stand there at once, each bracket closed as editors do it: the
    server reads the whole file again for each change. Other lines are typed when they are asked for,
    in a copy, each in place of the one before.
    """

    def __init__(self, server: LanguageServer, folder: Path) -> None:
        self._server = server
        self._path = folder / "example.py"
        self._copy = folder / "copy.py"
        self._lines = [f"{task}{rest}" for task in TASKS for rest in (*CALLS, *MEMBERS)]
        ends = (")" if line.endswith("(|") else "" for line in self._lines)
        typed = [line.replace("|", "") + end for line, end in zip(self._lines, ends, strict=True)]
        server.open(self._path, "\n".join([EXAMPLE, *typed, ""]))

    def signature(self, line: str) -> SignatureInfo:
        signatures = self._server.signature_help(*self._type(line))
        assert signatures, f"no signature help at {line}"
        return signatures[0]

    def keywords(self, line: str) -> set[str]:
        """The keyword arguments that are suggested, as they would be inserted."""
        suggested = self._server.completion(*self._type(line))
        return {one.label for one in suggested if one.kind == VARIABLE and one.label.endswith("=")}

    def members(self, line: str) -> set[str]:
        """What is suggested after a dot."""
        return {one.label for one in self._server.completion(*self._type(line))}

    def hover(self, line: str) -> str:
        return self._server.hover(*self._type(line))

    def _type(self, line: str) -> tuple[Path, int, int]:
        """Where the bar of a line is, which is not typed."""
        before, bar, after = line.partition("|")
        assert bar, f"no cursor in {line}"
        end = EXAMPLE.count("\n") + 1
        if line in self._lines:
            return self._path, end + self._lines.index(line), len(before)
        self._server.open(self._copy, f"{EXAMPLE}\n{before}{after}\n")
        return self._copy, end, len(before)


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    root = tmp_path_factory.mktemp("project")
    with LanguageServer(root) as server:
        yield Editor(server, root)


def prose(text: str) -> str:
    """The words of a text line by line, without the indentation that Markdown makes its own."""
    return "\n".join(line.strip() for line in text.replace("&nbsp;", " ").splitlines()).strip()


def docstring(function: str) -> str:
    for node in ast.walk(ast.parse(EXAMPLE)):
        if isinstance(node, ast.AsyncFunctionDef) and node.name == function:
            return prose(ast.get_docstring(node) or "")
    pytest.fail(f"the example has no function {function}")


@every_call
def test_signature_help_names_every_parameter_with_type_and_default(
    editor: Editor, call: str
) -> None:
    signature = editor.signature(f"resize{call}")

    assert signature.parameters == (
        "image: str",
        "width: int = 640",
        "height: int = 480",
        "*",
        "crop: bool = True",
    )


@every_call
def test_signature_help_of_a_bound_task_does_not_show_self(editor: Editor, call: str) -> None:
    signature = editor.signature(f"publish{call}")

    assert signature.label.startswith(
        "(image: str, /, title: str, *, tags: tuple[str, ...] = ()) ->"
    )


@every_call
@pytest.mark.parametrize("task", ["resize", "publish"])
def test_signature_help_shows_the_functions_own_docstring(
    editor: Editor, task: str, call: str
) -> None:
    signature = editor.signature(f"{task}{call}")

    assert prose(signature.documentation) == docstring(task)


@every_call
def test_completion_offers_the_keyword_arguments(editor: Editor, call: str) -> None:
    keywords = editor.keywords(f"resize{call}")

    assert keywords >= {"image=", "width=", "height=", "crop="}


@every_call
def test_completion_offers_neither_self_nor_positional_only_parameters(
    editor: Editor, call: str
) -> None:
    keywords = editor.keywords(f"publish{call}")

    assert {"title=", "tags="} <= keywords
    assert not {"self=", "image="} & keywords


def test_completion_offers_the_options_of_a_call(editor: Editor) -> None:
    keywords = editor.keywords("resize.options(|")

    assert keywords >= {"countdown=", "queue=", "expires="}


@pytest.mark.parametrize(
    ("task", "parameters", "result"),
    [
        (
            "resize",
            "image: str, width: int = 640, height: int = 480, *, crop: bool = True",
            "bytes",
        ),
        ("publish", "image: str, /, title: str, *, tags: tuple[str, ...] = ()", "int"),
    ],
)
def test_hover_on_a_task_shows_its_parameters_and_result(
    editor: Editor, task: str, parameters: str, result: str
) -> None:
    assert f"{task}: AsyncTask[({parameters}), {result}]" in editor.hover(f"|{task}")


@pytest.mark.parametrize("task", ["resize", "publish"])
def test_hover_on_a_task_shows_the_functions_documentation(editor: Editor, task: str) -> None:
    assert docstring(task) in prose(editor.hover(f"|{task}"))


@every_member
def test_hover_on_a_member_shows_every_parameter_with_type_and_default(
    editor: Editor, member: str
) -> None:
    text = prose(editor.hover(f"resize{member}"))

    assert "image: str,\nwidth: int = 640,\nheight: int = 480,\n*,\ncrop: bool = True\n)" in text


@every_member
@pytest.mark.parametrize("task", ["resize", "publish"])
def test_hover_on_a_member_shows_the_functions_documentation(
    editor: Editor, task: str, member: str
) -> None:
    assert docstring(task) in prose(editor.hover(f"{task}{member}"))


@every_call
@pytest.mark.parametrize(
    ("task", "parameters"),
    [
        ("archive", ("image: str", "*", "year: int = 2026")),
        ("restore", ("image: str", "*", "year: int = 2026")),
        ("sweep", ("days: int = 30",)),
        ("count", ("days: int = 30",)),
    ],
)
def test_tasks_of_an_app_and_periodic_ones_look_the_same(
    editor: Editor, task: str, parameters: tuple[str, ...], call: str
) -> None:
    signature = editor.signature(f"{task}{call}")

    assert signature.parameters == parameters
    assert prose(signature.documentation) == docstring(task)


def test_hover_on_a_task_of_an_app_shows_its_parameters_and_result(editor: Editor) -> None:
    text = editor.hover("|archive")

    assert "archive: AsyncTask[(image: str, *, year: int = 2026), bool]" in text
    assert docstring("archive") in prose(text)


@pytest.mark.parametrize("decorator", ["async_shared_task", "app.task"])
def test_completion_offers_the_options_of_a_task(editor: Editor, decorator: str) -> None:
    keywords = editor.keywords(f"{decorator}(|")

    assert keywords >= {"bind=", "every=", "base=", "queue=", "max_retries=", "on_failure="}


def test_signature_help_of_report_says_what_may_be_reported(editor: Editor) -> None:
    signature = editor.signature("report(|")

    assert signature.parameters == ("progress: BaseModel | Dataclass | Mapping[str, object]",)
    assert prose(signature.documentation).startswith("Report how far the running task is")


RESULT: Final = 'resize_all.AsyncResult("id")'


def test_signature_help_of_progress_names_its_options(editor: Editor) -> None:
    signature = editor.signature(f"{RESULT}.progress(|")

    names = [parameter.partition(":")[0] for parameter in signature.parameters]
    assert names == ["kind", "*", "timeout", "interval", "disable_sync_subtasks"]
    assert prose(signature.documentation).startswith("What the task reports while it runs")


def test_completion_offers_the_options_of_progress(editor: Editor) -> None:
    assert editor.keywords(f"{RESULT}.progress(Progress, |") >= {"timeout=", "interval="}


def test_completion_offers_what_can_be_asked_of_a_result(editor: Editor) -> None:
    offered = editor.members(f"{RESULT}.|")

    assert offered >= {"aget", "astate", "aready", "arevoke", "aforget", "progress"}


def test_completion_offers_the_fields_of_the_progress_that_is_read(editor: Editor) -> None:
    line = f"async def show(): [one.| async for one in {RESULT}.progress(Progress)]"

    assert editor.members(line) >= {"done", "total"}


def test_hover_shows_what_is_read(editor: Editor) -> None:
    line = f"async def show(): [|one async for one in {RESULT}.progress(Progress)]"

    assert "one: Progress" in editor.hover(line)
