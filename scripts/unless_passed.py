"""Run a check, unless it has passed and nothing that it reads has changed since.

It reads the named files, all files below the named folders, and the installed packages. The names of the
files below ``--names`` count, not what they hold. Another command, another Python and another version of
a package make it run again, too. What has passed is noted under .cache/passed, in a file for each name.

Usage: python scripts/unless_passed.py NAME [--names FOLDER] PATH... -- COMMAND...
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

NOTES: Final = Path(".cache", "passed")
"""From the current folder on."""


def main(arguments: Sequence[str]) -> int:
    """Run the command if need be, and return its exit code."""
    if "--" not in arguments or arguments.index("--") == 0:
        print(__doc__)
        return 2
    end = arguments.index("--")
    (name, *reads), command = arguments[:end], arguments[end + 1 :]
    named: list[str] = []
    while "--names" in reads:
        at = reads.index("--names")
        named.append(reads[at + 1])
        del reads[at : at + 2]
    missing = [path for path in [*reads, *named] if not Path(path).exists()]
    if missing:
        print(f"{name} cannot read {', '.join(missing)}: correct the paths in the Makefile")
        return 2
    note = NOTES / name
    # What is changed while the command runs is not what has passed.
    state = state_of(reads, named, command)
    if note.exists() and note.read_text(encoding="utf-8") == state:
        print(f"{name}: has passed, and nothing that it reads has changed since")
        return 0
    code = subprocess.run(command, check=False).returncode
    if code == 0:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(state, encoding="utf-8")
    return code


def state_of(reads: Iterable[str], named: Iterable[str], command: Sequence[str]) -> str:
    """A hash of all that the outcome of the command depends on."""
    state = hashlib.sha256()
    packages = Path(sysconfig.get_path("purelib")).glob("*.dist-info")
    for text in (*command, "", sys.version, *sorted(path.name for path in packages), ""):
        state.update(f"{text}\0".encode())
    for path in files_of(reads):
        state.update(f"{path}\0".encode())
        state.update(hashlib.sha256(path.read_bytes()).digest())
    for path in files_of(named):
        state.update(f"{path}\0".encode())
    return state.hexdigest()


def files_of(paths: Iterable[str]) -> Iterator[Path]:
    """The files, and those below the folders, without what Python compiles."""
    for path in map(Path, paths):
        if path.is_file():
            yield path
            continue
        for below in sorted(path.rglob("*")):
            if below.is_file() and "__pycache__" not in below.parts:
                yield below


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
