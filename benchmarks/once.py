"""Kill everything while money is moved: `python -m benchmarks.once`.

This measures no speed. Transfers between accounts are sent, each of which sends a message that writes
a receipt. Meanwhile workers, connections and the database are killed, all at random moments. With
``once=True`` and ``delay_on_commit`` each transfer and each receipt has to be there exactly once. The
peer is the same task with ``acks_late`` that commits and then sends.
"""

import argparse
from typing import cast

from tests.support.once_crashes import Kind, Transfers, transfer_and_kill
from tests.support.workers import Pool


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.once", description=__doc__)
    parser.add_argument("--transfers", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pool", default="asyncio", choices=["asyncio", "prefork", "threads"])
    parser.add_argument("--database", default="mariadb", choices=["mariadb", "postgres"])
    parser.add_argument("--only", choices=["once", "plain"])
    options = parser.parse_args()
    is_clean = True
    for way in ("once", "plain"):
        if options.only not in {None, way}:
            continue
        what = Transfers(
            options.transfers,
            options.kills,
            pool=cast("Pool", options.pool),
            kind=cast("Kind", options.database),
            way=way,
            seed=options.seed,
        )
        outcome = transfer_and_kill(what, log=True)
        print(f"{way}, {options.database}, {options.pool} pool: {outcome}", flush=True)
        is_clean = is_clean and (way == "plain" or outcome.is_clean)
    return 0 if is_clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
