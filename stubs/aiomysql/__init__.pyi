# Only the parts that the tests use, since aiomysql ships no type information.
from aiomysql.connection import Connection, connect
from aiomysql.cursors import Cursor, DictCursor
from aiomysql.pool import Pool, create_pool
from pymysql.err import (
    DatabaseError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    MySQLError,
    OperationalError,
    ProgrammingError,
)

__all__ = [
    "Connection",
    "Cursor",
    "DatabaseError",
    "DictCursor",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "MySQLError",
    "OperationalError",
    "Pool",
    "ProgrammingError",
    "connect",
    "create_pool",
]
