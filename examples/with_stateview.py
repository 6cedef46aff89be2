"""Write invoices for orders; killed at any instant and run again, it goes on where it stopped.

Run it with `python examples/with_stateview.py FOLDER [COUNT]`. The state is in FOLDER/state: look with
`stateview --store sqlite:FOLDER/state -n orders run steps`, and use `run reset STEP`, `restore orders.STEP` and
`diff orders.STEP`.
"""

import sys

import orders as work

from stateview import LockHeld, StateManager


def main(folder, count="20"):
    with StateManager(f"sqlite:{folder}/state", "orders", quiet=True) as state:
        with state.run("orders", checkpoints=5) as run:
            fetched = run.step("fetch", work.fetch, int(count))
            orders = run.step("check", work.check, fetched)
            rates = run.step("rates", work.rates, folder, retries=4, backoff=0.1, retry_on=ConnectionError)
            for order in run.each("invoices", orders, key="id"):
                work.invoice(folder, order, rates[order["currency"]])
            for tx in run.step("publish"):
                tx.save("report", work.summary(orders, rates))
        print(state.load("report"))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except LockHeld as error:
        sys.exit(f"error: {error}")
