# Only the parts that the tests use, since PyMySQL ships no type information.
from pymysql.connections import Connection
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
    "DatabaseError",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "MySQLError",
    "OperationalError",
    "ProgrammingError",
    "connect",
]

connect = Connection
