"""What the texts of statements do with the transaction in which they are executed."""

from __future__ import annotations

import pytest

from tomskit.sqlalchemy.statements import Effect, SavepointStep, effect_of, savepoint_step

MYSQL = "mariadb"
POSTGRES = "postgresql"
SQLITE = "sqlite"
NOTHING = Effect()


@pytest.mark.parametrize(
    ("text", "dialect", "ends"),
    [
        ("COMMIT", SQLITE, "COMMIT"),
        (" \n-- why\n/* how */ commit;", POSTGRES, "commit"),
        ("END", POSTGRES, "END"),
        ("START  TRANSACTION", MYSQL, "START TRANSACTION"),
        ("ROLLBACK", POSTGRES, "ROLLBACK"),
        ("rollback work;", MYSQL, "rollback"),
        ("ROLLBACK AND CHAIN", POSTGRES, "ROLLBACK"),
        ("ABORT", POSTGRES, "ABORT"),
        ("PREPARE TRANSACTION 'a'", POSTGRES, "PREPARE TRANSACTION"),
        ("INSERT INTO a VALUES (1); COMMIT", POSTGRES, "COMMIT"),
        ("INSERT INTO a VALUES ('it''s'); /* now */ COMMIT; SELECT 1", POSTGRES, "COMMIT"),
        ("SELECT $q$ ' $q$; COMMIT", POSTGRES, "COMMIT"),
        (r"SELECT E'\''; COMMIT", POSTGRES, "COMMIT"),
        (r"INSERT INTO a VALUES ('\''); COMMIT", MYSQL, "COMMIT"),
        ("SELECT 1; # a remark's\n COMMIT", MYSQL, "COMMIT"),
        ("# a remark\nCOMMIT", MYSQL, "COMMIT"),
        ("/*!50000 COMMIT */", MYSQL, "COMMIT"),
        ("/*M! COMMIT */", MYSQL, "COMMIT"),
        ("IF 1 THEN COMMIT; END IF", MYSQL, "END"),
        ("TRUNCATE a", MYSQL, "TRUNCATE"),
        ("CREATE OR REPLACE TABLE a (b INT)", MYSQL, "CREATE OR"),
        ("CHECK TABLE a", MYSQL, "CHECK TABLE"),
        ("SET @a = 1, autocommit = 1", MYSQL, "SET @a = 1, autocommit"),
        ("SET SESSION autocommit = 1", MYSQL, "SET SESSION autocommit"),
    ],
)
def test_what_ends_the_transaction(text: str, dialect: str, ends: str) -> None:
    assert effect_of(text, dialect).ends == ends


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("INSERT INTO a VALUES ('x; COMMIT')", POSTGRES),
        ("INSERT INTO a VALUES ('it''s; COMMIT')", POSTGRES),
        ("INSERT INTO a VALUES ('x; COMMIT')", MYSQL),
        (r"INSERT INTO a VALUES ('\'; COMMIT')", MYSQL),
        ("INSERT INTO a VALUES (\"x; COMMIT\"), ('!')", MYSQL),
        ("SELECT 1 /* ; COMMIT */;", MYSQL),
        ("SELECT 5--1; SELECT 2", MYSQL),
        ("SELECT $q$; COMMIT $q$; SELECT 1;", POSTGRES),
        ("SELECT 1 -- ; COMMIT", POSTGRES),
        ("DO $$ BEGIN PERFORM 1; END $$", POSTGRES),
        ("CREATE FUNCTION a() RETURNS int BEGIN ATOMIC SELECT 1; END", POSTGRES),
        ("CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1; END", SQLITE),
        ("CREATE TABLE a (b INT)", POSTGRES),
        ("CREATE TEMPORARY TABLE a (b INT)", MYSQL),
        ("CALL a()", POSTGRES),
        ("ROLLBACK TO SAVEPOINT a", MYSQL),
        ("ROLLBACK WORK TO a", MYSQL),
        ("ROLLBACK TRANSACTION TO a", SQLITE),
        ("SAVEPOINT a", MYSQL),
        ("(SELECT 1) UNION (SELECT 2)", MYSQL),
        ("SET @autocommitted = 1", MYSQL),
        ("SELECT * FROM commits", MYSQL),
    ],
)
def test_what_leaves_the_transaction_open(text: str, dialect: str) -> None:
    assert effect_of(text, dialect) == NOTHING


@pytest.mark.parametrize(
    "text",
    [
        "CALL a()",
        "call a",
        "EXECUTE IMMEDIATE 'COMMIT'",
        "PREPARE a FROM 'COMMIT'",
        "EXECUTE a",
        "SET STATEMENT max_statement_time = 1 FOR CALL a()",
        "SELECT 1; CALL a()",
        "/* why */ CALL a()",
        "/*! CALL a() */",
    ],
)
def test_what_may_end_the_transaction_in_mysql(text: str) -> None:
    assert effect_of(text, MYSQL) == Effect(may_end=True)


def test_only_a_commit_alone_is_one() -> None:
    assert effect_of(" commit ;", POSTGRES).commits
    assert not effect_of("SELECT 1; COMMIT", POSTGRES).commits
    assert not effect_of("ROLLBACK", POSTGRES).commits


def test_a_long_text_is_read_in_time() -> None:
    rows = ", ".join(f"('it''s number {number}; COMMIT')" for number in range(100_000))
    assert effect_of(f"INSERT INTO a VALUES {rows}", MYSQL) == NOTHING
    assert effect_of(f"INSERT INTO a VALUES {rows}; COMMIT", POSTGRES).ends == "COMMIT"


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("SAVEPOINT sa_savepoint_1", SavepointStep("set", "sa_savepoint_1")),
        ('savepoint "A"', SavepointStep("set", "a")),
        ("/* x */ SAVEPOINT `a`;", SavepointStep("set", "a")),
        ("ROLLBACK TO SAVEPOINT a", SavepointStep("rollback", "a")),
        ("ROLLBACK WORK TO a", SavepointStep("rollback", "a")),
        ("RELEASE SAVEPOINT a", SavepointStep("release", "a")),
        ("release a", SavepointStep("release", "a")),
        ("ROLLBACK", None),
        ("SELECT 1", None),
    ],
)
def test_what_is_done_with_a_savepoint(text: str, step: SavepointStep | None) -> None:
    assert savepoint_step(text) == step
