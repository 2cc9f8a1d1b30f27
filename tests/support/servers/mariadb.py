"""A MariaDB server."""

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import quote

import pymysql
from typing_extensions import override

from tests.support.patience import patience
from tests.support.servers.base import (
    START_TIMEOUT,
    Server,
    ServerError,
    die_with_parent,
    find_binary,
)


class MariaDBServer(Server):
    """A MariaDB with one ordinary user, who may do everything in the databases created here.

    `options` are more command line options of the server. `query` and the counts run as root over
    a Unix socket and leave root's own connections out.
    """

    def __init__(
        self,
        *,
        user: str = "tomskit",
        password: str = "tomskit-password",
        database: str = "tomskit",
        options: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.user: Final = user
        self.password: Final = password
        self.database: Final = database
        self._options = list(options)

    @property
    def _socket(self) -> str:
        return str(self.folder / "socket")

    @override
    def _command(self) -> list[str]:
        server = find_binary("mariadbd", "mysqld", install="apt-get install mariadb-server")
        # MariaDB refuses to run as root unless it is told to.
        as_user = ["--user=root"] if os.geteuid() == 0 else []
        # The data need not survive a crash of the machine, so nothing waits for the disk.
        storage = [
            f"--datadir={self.folder / 'data'}",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
            "--skip-innodb-doublewrite",
            "--aria-pagecache-buffer-size=8M",
            "--key-buffer-size=1M",
        ]
        if not (self.folder / "data").exists():
            self._initialise([*as_user, *storage])
        return [
            server,
            "--no-defaults",
            *as_user,
            *storage,
            f"--tmpdir={self.folder}",
            f"--socket={self._socket}",
            f"--pid-file={self.folder / 'pid'}",
            f"--bind-address={self.host}",
            f"--port={self.port}",
            "--skip-log-bin",
            "--skip-name-resolve",
            "--performance-schema=OFF",
            "--max-connections=500",
            "--character-set-server=utf8mb4",
            *self._options,
        ]

    def _initialise(self, options: Sequence[str]) -> None:
        install = find_binary(
            "mariadb-install-db", "mysql_install_db", install="apt-get install mariadb-server"
        )
        command = [
            install,
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            # A MariaDB that starts clears its temporary folder of all temporary tables, those of
            # another that is being installed at the same moment included.
            f"--tmpdir={self.folder}",
            *options,
        ]
        done = subprocess.run(
            die_with_parent(command),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience(2 * START_TIMEOUT),
        )
        if done.returncode != 0:
            msg = f"mariadb-install-db failed:\n{done.stdout}{done.stderr}"
            raise ServerError(msg)

    @override
    def _probe(self) -> bool:
        # By the socket in our own folder, so it is our server that answers. Not with pymysql at
        # once, because that leaves its socket open when it cannot connect.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(self._socket)
        self.query("SELECT 1")
        return True

    @override
    def start(self) -> None:
        super().start()
        self.query("CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s", (self.user, self.password))
        known = "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s"
        if not self.query(known, (self.database,)):
            self.create_database(self.database)

    def create_database(self, name: str) -> None:
        """Creates an empty database, in place of one that may be there."""
        self.query(f"CREATE OR REPLACE DATABASE {_quote_name(name)}")
        # In GRANT these two are wildcards; pymysql halves the percent sign.
        pattern = name.replace("_", r"\_").replace("%", r"\%%")
        self.query(f"GRANT ALL PRIVILEGES ON {_quote_name(pattern)}.* TO %s", (self.user,))

    def query(self, sql: str, args: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Runs one statement as root on a connection of its own, and commits."""
        with (
            pymysql.connect(
                unix_socket=self._socket, user="root", charset="utf8mb4", autocommit=True
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(sql, args or None)
            return list(cursor.fetchall())

    def _count(self, sql: str, args: Sequence[object] = ()) -> int:
        [(count,)] = self.query(sql, args)
        assert isinstance(count, int)
        return count

    def connections(self, database: str | None = None) -> int:
        """How many connections are open, to one database or of all users but root."""
        sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE user "
        # All of root's are ours: an earlier one may need a moment to go after it was closed.
        if database is None:
            return self._count(sql + "NOT IN ('root', 'system user', 'event_scheduler')")
        return self._count(sql + "<> 'root' AND db = %s", (database,))

    def kill_connections(self, database: str | None = None) -> None:
        """Closes the connections of its ordinary user, to one database or to all."""
        sql = f"SELECT id FROM information_schema.processlist WHERE user = '{self.user}'"
        if database is not None:
            sql += f" AND db = '{database}'"
        for (connection,) in self.query(sql):
            with suppress(pymysql.OperationalError):  # it has gone by itself
                self.query(f"KILL {connection}")

    def open_transactions(self) -> int:
        """How many transactions are open; one begins with its first statement on a table."""
        # InnoDB answers from a copy that it renews only when nobody has read it for 0.1 s.
        time.sleep(0.12)
        return self._count("SELECT COUNT(*) FROM information_schema.innodb_trx")

    def url(self, driver: str = "mysql+aiomysql", database: str | None = None) -> str:
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        name = quote(self.database if database is None else database, safe="")
        return f"{driver}://{login}@{self.host}:{self.port}/{name}"


def _quote_name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
