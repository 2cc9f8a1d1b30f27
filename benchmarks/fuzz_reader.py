"""Find texts that a worker reads wrongly or ends with: `python -m benchmarks.fuzz_reader --minutes 30`.

This measures no speed, and needs no server: messages are read in this process, by the code of a worker and by
kombu's. With atheris (`pip install atheris`) the texts are those that lead to new lines of code; without, calls
with random changes.
"""

import argparse
import base64
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import Final, Protocol, cast

from tests.support.fuzzing import mutant

INSTRUMENTED: Final = (
    *("tomskit.celery.fast_redis.guarded", "tomskit.celery._worker.unreadable"),
    *("kombu.utils.json", "kombu.transport.virtual.base", "kombu.message"),
    *("celery.worker.request", "celery.utils.time", "json.decoder"),
)
WORDS: Final = (
    *("{", "}", "[", "]", "null", "true", "NaN", "Infinity", "1e999", "-0", "18446744073709551616"),
    *(
        '"task"',
        '"id"',
        '"args"',
        '"kwargs"',
        '"headers"',
        '"properties"',
        '"delivery_tag"',
        '"eta"',
    ),
    *('"__type__"', '"__value__"', '"body_encoding"', '"base64"', '"content-type"', '"timelimit"'),
    *('"content-encoding"', '"expires"', '"callbacks"', '"chord"', r"\ud800", r"\u0000"),
)
"""What random bytes hardly ever make."""
EXAMPLES: Final = 300


class _Atheris(Protocol):
    def instrument_imports(self, *, include: Sequence[str]) -> AbstractContextManager[object]: ...
    def Setup(self, args: Sequence[str], test: Callable[[bytes], object]) -> object: ...  # noqa: N802
    def Fuzz(self) -> object: ...  # noqa: N802


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_reader", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        atheris = cast("_Atheris", importlib.import_module("atheris"))
    except ImportError:
        at_random(options.seed, options.minutes * 60)
    else:
        with tempfile.TemporaryDirectory() as folder:
            by_coverage(atheris, Path(folder), options.seed, options.minutes * 60)


def at_random(seed: int, seconds: float) -> None:
    """Read calls with random changes."""
    reading = importlib.import_module("tests.support.reading")
    random, end, count = Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        raw, _ = mutant(random)
        try:
            reading.check(raw)
        except Exception as exc:
            exc.add_note(f"seed {seed}, after {count:,} messages: {raw!r}")
            raise
        count += 1
    print(f"{count:,} messages, no find (without atheris)")


def by_coverage(atheris: _Atheris, folder: Path, seed: int, seconds: float) -> None:
    """Read what atheris makes of examples; it prints what it does, and ends the process."""
    with atheris.instrument_imports(include=INSTRUMENTED):
        reading = importlib.import_module("tests.support.reading")
    examples, random = folder / "examples", Random(seed)
    examples.mkdir()
    for number in range(EXAMPLES):
        raw, _ = mutant(random)
        (examples / f"whole-{number}").write_bytes(raw)
        try:
            message = json.loads(raw)
            body = base64.b64decode(message["body"])
        except (LookupError, TypeError, ValueError):
            continue
        envelope = json.dumps(message).encode() if number % 2 else b""
        (examples / f"body-{number}").write_bytes(envelope + reading.SEPARATOR + body)
    words = folder / "words"
    quoted = [word.replace("\\", r"\\").replace('"', r"\"") for word in WORDS]
    words.write_text("".join(f'"{word}"\n' for word in quoted), encoding="utf-8")

    def read(data: bytes) -> None:
        reading.check(data)

    limits = (f"-max_total_time={int(seconds)}", "-max_len=3000", "-timeout=60", f"-seed={seed}")
    atheris.Setup([sys.argv[0], str(examples), f"-dict={words}", *limits], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
