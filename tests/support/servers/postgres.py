"""A PostgreSQL server."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Final

import psycopg
from typing_extensions import override

from tests.support.patience import patience
from tests.support.servers.base import START_TIMEOUT, Server, ServerError, die_with_parent

INSTALL: Final = "apt-get install postgresql"
SYSTEM_USER: Final = "postgres"


def postgres_missing() -> str | None:
    """Says what to install when a PostgresServer cannot be started here."""
    try:
        _folder_of_programs()
        _as_ordinary_user()
    except ServerError as error:
        return str(error)
    return None


def _folder_of_programs() -> Path:
    # Debian keeps each version in a folder of its own, which is not on the PATH.
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: p.parts)
    found = shutil.which("initdb") or (str(versions[-1]) if versions else None)
    if found is None:
        msg = f"The tests need PostgreSQL, which is not installed. Try: {INSTALL}"
        raise ServerError(msg)
    return Path(found).parent


def _as_ordinary_user() -> list[str]:
    """The beginning of a command: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        setpriv = None
    if setpriv is None:
        msg = f"PostgreSQL does not run as root, and there is no user {SYSTEM_USER!r} or no setpriv"
        raise ServerError(msg)
    user = [f"--reuid={SYSTEM_USER}", f"--regid={SYSTEM_USER}", "--clear-groups"]
    # The kernel forgets the signal when the user changes.
    return [setpriv, *user, "--pdeathsig", "KILL", "--"]


class PostgresServer(Server):
    """A PostgreSQL whose only user may do everything. `options` are more of the command line."""

    def __init__(
        self,
        *,
        user: str = "tomskit",
        password: str = "tomskit-password",
        options: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._options = list(options)
        self.user: Final = user
        self.password: Final = password
        self.database: Final = "postgres"
        self._names = count()

    @override
    def _command(self) -> list[str]:
        data = self.folder / "data"
        if not data.exists():
            self._initialise(data)
        return [
            *_as_ordinary_user(),
            str(_folder_of_programs() / "postgres"),
            *("-D", str(data), "-p", str(self.port), "-k", str(data)),
            *("-c", f"listen_addresses={self.host}", "-c", "max_connections=300"),
            # The data need not survive a crash of the machine, so nothing waits for the disk.
            *("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "shared_buffers=32MB"),
            *self._options,
        ]

    def _initialise(self, data: Path) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password, encoding="utf-8")
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            self.folder.chmod(0o755)
            for path in (data, secret):
                shutil.chown(path, SYSTEM_USER, SYSTEM_USER)
        command = [
            *_as_ordinary_user(),
            str(_folder_of_programs() / "initdb"),
            *("-D", str(data), "-U", self.user, f"--pwfile={secret}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"),
        ]
        done = subprocess.run(
            die_with_parent(command),
            check=False,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience(2 * START_TIMEOUT),
        )
        if done.returncode != 0:
            msg = f"initdb failed:\n{done.stdout}{done.stderr}"
            raise ServerError(msg)

    @override
    def _probe(self) -> bool:
        with socket.create_connection((self.host, self.port), 1):
            return "ready to accept connections" in self.log

    def new_database(self) -> str:
        """Creates an empty database and answers its name."""
        name = f"test_{next(self._names)}"
        self.query(f"CREATE DATABASE {name}")
        return name

    def query(self, sql: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Runs one statement, without a transaction."""
        with psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database or self.database,
            autocommit=True,
        ) as connection:
            # Our own statements: psycopg's types admit no text that is made at run time.
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []
