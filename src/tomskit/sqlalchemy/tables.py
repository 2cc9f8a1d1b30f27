"""The tables that hold messages until they are published, and the marks of tasks that have run.

``await db.create_tables()`` makes them. With Alembic, give it `metadata` beside your own::

    target_metadata = [Base.metadata, tomskit.sqlalchemy.tables.metadata]
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

__all__ = ("metadata", "now_ms", "once", "outbox")

_MYSQL: Final = ("mysql", "mariadb")

# ASCII only, so that it does not matter which characters a connection can carry. Not BLOB: aiomysql
# 0.3 cannot send bytes with PyMySQL 1.2. MySQL's TEXT ends at 64 KB.
_Text: Final = Text().with_variant(mysql.LONGTEXT(charset="ascii"), *_MYSQL)
# MySQL compares texts without regard to case, unless it is told to compare bytes.
_Id: Final = String(255).with_variant(
    mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), *_MYSQL
)

# MySQL has kinds of tables that know no transactions, and may be told to take one by default.
_ENGINE: Final = "InnoDB"

metadata: Final = MetaData()
"""The tables `outbox` and `once`."""

outbox: Final = Table(
    "tomskit_outbox",
    metadata,
    # In the order in which the messages were sent, and with the app and the broker at its end.
    Column("id", String(48), primary_key=True),
    Column("created", BigInteger, nullable=False),
    # From when on a worker may publish it; until then that is for the process that committed it.
    Column("due", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    # Of the worker that publishes it, where the database cannot skip locked rows.
    Column("claim", String(32)),
    Column("body", _Text, nullable=False),
    Column("options", _Text, nullable=False),
    Index("ix_tomskit_outbox_due", "due"),
    mysql_engine=_ENGINE,
    mariadb_engine=_ENGINE,
)
"""Messages that were committed and are to be published. Times are in milliseconds since 1970."""

once: Final = Table(
    "tomskit_once",
    metadata,
    Column("task_id", _Id, primary_key=True),
    Column("finished", BigInteger, nullable=False),
    # The result as a message holds it; all three are null where nobody wants it.
    Column("content_type", String(100)),
    Column("content_encoding", String(50)),
    Column("result", _Text),
    Index("ix_tomskit_once_finished", "finished"),
    mysql_engine=_ENGINE,
    mariadb_engine=_ENGINE,
)
"""The marks of tasks with ``once=True`` that have been committed, and their results."""


class now_ms(FunctionElement[int]):  # noqa: N801 (named like the functions of SQLAlchemy)
    """The clock of the database server, in milliseconds since 1970.

    It goes on within a transaction, and is the same for all clients whatever their own clocks say.
    """

    type: TypeEngine[int] = BigInteger()
    inherit_cache: bool | None = True


@compiles(now_ms)
def _(*_: Any, **__: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(now_ms, "mysql", "mariadb")
def _(*_: Any, **__: Any) -> str:
    return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000)"


@compiles(now_ms, "sqlite")
def _(*_: Any, **__: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
