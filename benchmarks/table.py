"""The table that every benchmark prints: ours against a peer, in the same run."""

from typing import NamedTuple


class Row(NamedTuple):
    """One comparison."""

    name: str
    ours: float
    """In `unit`, as is `theirs`."""
    theirs: float
    unit: str
    ratio: float
    """How many times better ours is; greater is better, for times and rates."""
    target: str
    """The goal of `ratio`, for example ``">= 4"``; empty without a goal."""


def print_table(rows: list[Row]) -> None:
    width = max(len(row.name) for row in rows) if rows else 0
    print(f"{'':{width}}  {'ours':>12}  {'theirs':>12}  {'ratio':>7}  target")
    for row in rows:
        ours, theirs = (f"{value:.2f} {row.unit}" for value in (row.ours, row.theirs))
        print(f"{row.name:{width}}  {ours:>12}  {theirs:>12}  {row.ratio:>7.2f}  {row.target}")
