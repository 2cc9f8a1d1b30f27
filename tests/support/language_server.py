"""Pyright's language server, driven as an editor drives it: what a user sees while typing."""

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Final, Self, TypeVar

from pydantic import Field, TypeAdapter

from tests.support.patience import patience
from tests.support.servers import die_with_parent

# The first question waits until the server has read celery and its stubs.
ANSWER_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = 30.0

# From LSP's CompletionItemKind: what pyright gives to a keyword argument.
VARIABLE: Final = 6

T = TypeVar("T")


class LanguageServerError(AssertionError):
    """The server gave an error for an answer, or none in time; the message holds its log."""


@dataclass(frozen=True)
class SignatureInfo:
    """The box over an open parenthesis."""

    label: str
    parameters: tuple[str, ...]
    documentation: str


@dataclass(frozen=True)
class Completion:
    """A line of the list of suggestions; `kind` is LSP's CompletionItemKind."""

    label: str
    kind: int


# The messages, as far as they are used; what else they hold is ignored.


@dataclass(frozen=True)
class _Message:
    id: int | str | None = None
    method: str | None = None
    params: object = None
    result: object = None
    error: object = None


@dataclass(frozen=True)
class _ConfigurationItem:
    section: str = ""


@dataclass(frozen=True)
class _ConfigurationParams:
    items: list[_ConfigurationItem]


@dataclass(frozen=True)
class _Markup:
    value: str


@dataclass(frozen=True)
class _Parameter:
    label: str


@dataclass(frozen=True)
class _Signature:
    label: str
    parameters: list[_Parameter]
    documentation: _Markup | None = None


@dataclass(frozen=True)
class _SignatureHelp:
    signatures: list[_Signature]
    shown: Annotated[int | None, Field(alias="activeSignature")] = None


@dataclass(frozen=True)
class _CompletionList:
    items: list[Completion]


@dataclass(frozen=True)
class _Hover:
    contents: _Markup


def _signature_info(signature: _Signature) -> SignatureInfo:
    return SignatureInfo(
        label=signature.label,
        parameters=tuple(parameter.label for parameter in signature.parameters),
        documentation=signature.documentation.value if signature.documentation else "",
    )


def _read_as(type_: type[T], value: object) -> T:
    return TypeAdapter(type_).validate_python(value)


class LanguageServer:
    """A `pyright-langserver` process. Entering the context starts it and says hello.

    `root` is the folder that the editor has open; the environment that it finds packages in is the
    one that runs the tests.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._log = root / "language-server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        # None is the end of the server's output.
        self._messages: queue.Queue[_Message | None] = queue.Queue()
        self._numbers = itertools.count(1)
        self._versions: dict[Path, int] = {}

    def open(self, path: Path, text: str) -> None:
        """Opens a file with a text that need not be on the disk, or replaces the text."""
        version = self._versions.get(path, 0) + 1
        self._versions[path] = version
        document = {"uri": path.as_uri(), "version": version}
        if version == 1:
            opened = {**document, "languageId": "python", "text": text}
            self._notify("textDocument/didOpen", {"textDocument": opened})
        else:
            changes = {"textDocument": document, "contentChanges": [{"text": text}]}
            self._notify("textDocument/didChange", changes)

    def signature_help(self, path: Path, line: int, character: int) -> list[SignatureInfo]:
        """The signatures at a position, lines and characters counted from 0; the shown one first."""
        answer = self._ask_at("textDocument/signatureHelp", path, line, character)
        if answer is None:
            return []
        found = _read_as(_SignatureHelp, answer)
        shown = found.shown or 0
        signatures = [_signature_info(signature) for signature in found.signatures]
        return signatures[shown:] + signatures[:shown]

    def completion(self, path: Path, line: int, character: int) -> list[Completion]:
        """The suggestions at a position, lines and characters counted from 0."""
        answer = self._ask_at("textDocument/completion", path, line, character)
        return [] if answer is None else _read_as(_CompletionList, answer).items

    def hover(self, path: Path, line: int, character: int) -> str:
        """The text shown over a position, lines and characters counted from 0."""
        answer = self._ask_at("textDocument/hover", path, line, character)
        return "" if answer is None else _read_as(_Hover, answer).contents.value

    def _ask_at(self, method: str, path: Path, line: int, character: int) -> object:
        position = {"line": line, "character": character}
        return self._ask(method, {"textDocument": {"uri": path.as_uri()}, "position": position})

    # -- messages

    def _ask(self, method: str, params: object = None) -> object:
        number = next(self._numbers)
        self._send({"id": number, "method": method, "params": params})
        deadline = time.monotonic() + patience(ANSWER_TIMEOUT)
        while True:
            message = self._receive(deadline, method)
            if message.method is not None:
                self._serve(message)
            elif message.id == number:
                if message.error is not None:
                    raise self._failure(f"answered {method} with {message.error}")
                return message.result

    def _receive(self, deadline: float, method: str) -> _Message:
        try:
            message = self._messages.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty:
            raise self._failure(f"did not answer {method} within {ANSWER_TIMEOUT:g} s") from None
        if message is None:
            raise self._failure(f"ended before it answered {method}")
        return message

    def _serve(self, message: _Message) -> None:
        """Answers what the server asks of an editor; a notification has no id and wants none."""
        if message.id is None:
            return
        result: object = None
        if message.method == "workspace/configuration":
            asked = _read_as(_ConfigurationParams, message.params)
            result = [_settings(item.section) for item in asked.items]
        self._send({"id": message.id, "result": result})

    def _notify(self, method: str, params: object = None) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: Mapping[str, object]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        stream = _pipe(self._started().stdin)
        try:
            stream.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            stream.flush()
        except BrokenPipeError:
            raise self._failure("has ended") from None

    def _read(self) -> None:
        parser = TypeAdapter(_Message)
        stream = _pipe(self._started().stdout)
        try:
            while (body := _read_body(stream)) is not None:
                self._messages.put(parser.validate_json(body))
        finally:
            self._messages.put(None)

    # -- the process

    def start(self) -> None:
        if self._process is not None:
            msg = "a LanguageServer is started once"
            raise RuntimeError(msg)
        command = [str(Path(sys.executable).parent / "pyright-langserver"), "--stdio"]
        with self._log.open("wb") as log:
            # A session of its own keeps Ctrl-C away from it and marks all processes that it starts.
            self._process = subprocess.Popen(
                die_with_parent(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._root,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name="language server", daemon=True)
        self._reader.start()

    def _greet(self) -> None:
        self._ask("initialize", self._hello())
        self._notify("initialized", {})

    def _hello(self) -> dict[str, object]:
        uri = self._root.as_uri()
        prose = ["markdown", "plaintext"]
        return {
            # Should the tests be killed, Node sees it by this, and ends too.
            "processId": os.getpid(),
            "rootUri": uri,
            "workspaceFolders": [{"uri": uri, "name": self._root.name}],
            "capabilities": {
                "workspace": {"configuration": True, "workspaceFolders": True},
                "window": {"workDoneProgress": True},
                "textDocument": {
                    "hover": {"contentFormat": prose},
                    "signatureHelp": {"signatureInformation": {"documentationFormat": prose}},
                    "completion": {"completionItem": {"documentationFormat": prose}},
                },
            },
        }

    def stop(self) -> None:
        """Ends it as an editor does."""
        self._ask("shutdown")
        self._notify("exit")
        code = self._started().wait(STOP_TIMEOUT)
        if code != 0:
            raise self._failure(f"ended with {code}")

    def kill(self) -> None:
        """Kills it and every process that it started."""
        process = self._started()
        # The process we started is a wrapper: Node is in its group, and may outlive it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if self._reader is not None:
            self._reader.join(STOP_TIMEOUT)
        # What is left unsent cannot be sent any more.
        with suppress(BrokenPipeError):
            _pipe(process.stdin).close()
        _pipe(process.stdout).close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            msg = "the LanguageServer has not been started"
            raise RuntimeError(msg)
        return self._process

    def _failure(self, what: str) -> LanguageServerError:
        log = self._log.read_text(encoding="utf-8", errors="replace")
        return LanguageServerError(f"The language server {what}. Its log:\n{log}")

    def __enter__(self) -> Self:
        self.start()
        try:
            self._greet()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            self.kill()


def _settings(section: str) -> dict[str, object]:
    """A user's settings; pyright asks for each of its sections by name."""
    sections: dict[str, dict[str, object]] = {
        "python": {"pythonPath": sys.executable},
        "python.analysis": {"typeCheckingMode": "strict", "diagnosticMode": "openFilesOnly"},
    }
    return sections.get(section, {})


def _read_body(stream: IO[bytes]) -> bytes | None:
    """Reads a message; None at the end of the stream, also where it cuts a message off."""
    length: int | None = None
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if length is None:
        return None
    body = stream.read(length)
    return body if len(body) == length else None


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
