"""What the text of a statement does with the transaction in which it is executed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

__all__ = ("Effect", "SavepointStep", "effect_of", "savepoint_step")

_MYSQL: Final = frozenset({"mysql", "mariadb"})

_REMARKS: Final = r"(?:\s|/\*.*?\*/|--[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|\()*+"
_FLAGS: Final = re.IGNORECASE | re.DOTALL

_ENDS: Final = re.compile(
    _REMARKS + r"((?:COMMIT|END|ABORT|BEGIN|(?:START|PREPARE)\s+TRANSACTION"
    r"|ROLLBACK(?!\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b))\b)",
    _FLAGS,
)
_ENDS_IN_MYSQL: Final = re.compile(
    _REMARKS + r"((?:CREATE|DROP)\s+(?!TEMPORARY\b)\w+"
    r"|(?:ALTER|TRUNCATE|RENAME|GRANT|REVOKE|FLUSH|RESET|INSTALL|UNINSTALL|LOCK\s+TABLES?"
    r"|(?:ANALYZE|CHECK|OPTIMIZE|REPAIR)\s+TABLE|(?:CACHE|LOAD)\s+INDEX|SET\s+PASSWORD)\b"
    r"|SET\b.*?\bautocommit\b)",
    _FLAGS,
)
_KNOWN_IN_MYSQL: Final = re.compile(
    _REMARKS
    + r"(?:SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|VALUES|TABLE|SHOW|EXPLAIN|DESC|DESCRIBE"
    r"|SAVEPOINT|RELEASE|ROLLBACK|DO|USE|HANDLER|KILL|LOAD\s+DATA|(?:CREATE|DROP)\s+TEMPORARY\s+TABLE"
    r"|SET(?!\s+STATEMENT\b))\b",
    _FLAGS,
)
_EMPTY: Final = re.compile(_REMARKS + "$", _FLAGS)

# What is no code, by which a semicolon in it is told from one that separates statements.
_TEXTS_IN_MYSQL: Final = re.compile(
    r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|`[^`]*+`|/\*(?!M?!).*?\*/|--(?=\s)[^\n]*|\#[^\n]*""",
    _FLAGS,
)
_EXECUTED_REMARK: Final = re.compile(r"/\*M?!\d*(.*?)\*/", _FLAGS)
_TEXTS: Final = re.compile(
    r"""\bE'(?:[^'\\]|\\.)*+'|'[^']*+'|"[^"]*+"|\$([a-z_]\w*|)\$.*?\$\1\$|/\*.*?\*/|--[^\n]*""",
    _FLAGS,
)
_FUNCTION_BODY: Final = re.compile(r"\bBEGIN\s+ATOMIC\b", _FLAGS)

_STEP: Final = re.compile(
    _REMARKS + r"(?:(SAVEPOINT)|(ROLLBACK)\s+(?:(?:WORK|TRANSACTION)\s+)?TO(?:\s+SAVEPOINT)?"
    r"|RELEASE(?:\s+SAVEPOINT)?)\s+([^\s;]+)",
    _FLAGS,
)

_FIRST_OF_STEPS: Final = frozenset("sSrR/-#( \n\t")
"""Most statements begin with none of these."""

_LONGEST_KEPT: Final = 10_000
"""Characters of a text whose effect is remembered."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a statement does with the transaction.

    Attributes:
        ends: The words by which it ends the transaction; None if it shows none.
        commits: Whether it is a commit and nothing else.
        may_end: Whether it may end the transaction and does not show it, such as a procedure.
    """

    ends: str | None = None
    commits: bool = False
    may_end: bool = False


@dataclass(frozen=True, slots=True)
class SavepointStep:
    """A statement about a savepoint."""

    step: Literal["set", "rollback", "release"]
    name: str


def effect_of(statement: str, dialect: str) -> Effect:
    """What a statement, or several in one text, does with its transaction.

    Args:
        statement: Its text.
        dialect: SQLAlchemy's name of the database.
    """
    find: Callable[[str, str], Effect] = _known if len(statement) <= _LONGEST_KEPT else _effect_of
    return find(statement, dialect)


def savepoint_step(statement: str) -> SavepointStep | None:
    """What a statement does with a savepoint; None for any other statement."""
    found = _STEP.match(statement) if statement[:1] in _FIRST_OF_STEPS else None
    if found is None:
        return None
    step: Literal["set", "rollback", "release"]
    step = "set" if found[1] else "rollback" if found[2] else "release"
    return SavepointStep(step, found[3].strip('"`').lower())


def _effect_of(statement: str, dialect: str) -> Effect:
    parts = _parts(statement, dialect)
    is_mysql = dialect in _MYSQL
    may_end = False
    for part in parts:
        found = _ENDS.match(part) or (_ENDS_IN_MYSQL.match(part) if is_mysql else None)
        if found is not None:
            commits = len(parts) == 1 and found[1].upper() in {"COMMIT", "END"}
            return Effect(" ".join(found[1].split()), commits=commits)
        # PostgreSQL lets no procedure end the transaction of its caller, and SQLite has none.
        may_end = may_end or (is_mysql and _KNOWN_IN_MYSQL.match(part) is None)
    return Effect(may_end=may_end)


_known: Final = lru_cache(maxsize=512)(_effect_of)


def _parts(statement: str, dialect: str) -> list[str]:
    """The statements in a text, of which SQLite takes only one."""
    is_mysql = dialect in _MYSQL
    is_one = ";" not in statement.rstrip().rstrip(";")
    if dialect == "sqlite" or (is_one and not (is_mysql and "!" in statement)):
        return [statement]
    if is_mysql:
        code = _EXECUTED_REMARK.sub(r" \1 ", _TEXTS_IN_MYSQL.sub(" ", statement))
    else:
        code = _TEXTS.sub(" ", statement)
        if _FUNCTION_BODY.search(code):
            return [code]
    return [part for part in code.split(";") if _EMPTY.match(part) is None]
