"""Transfers happen exactly once, whatever is killed meanwhile."""

import pytest

from tests.support.once_crashes import Kind, Transfers, transfer_and_kill
from tests.support.servers.postgres import postgres_missing


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_transfers_and_receipts_happen_once_while_everything_is_killed(kind: Kind) -> None:
    if kind == "postgres" and (missing := postgres_missing()) is not None:
        pytest.skip(missing)
    outcome = transfer_and_kill(Transfers(200, kills=10, kind=kind))
    assert outcome.is_clean, outcome
