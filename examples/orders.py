"""The work that both examples do: read orders, check them, look up rates, write invoices, and sum up. No network."""

import json
import os
import time
from pathlib import Path

RATES = {"EUR": 100, "USD": 92, "GBP": 117}  # euro cents for one unit
HANGS_AT = os.environ.get("ORDERS_HANGS_AT")  # the id of an order that takes a minute: time to kill the script


def fetch(count):
    """Return orders, as a shop's server would."""
    return [{"id": n, "amount": 10 * n, "currency": "ZZZ" if n % 7 == 0 else list(RATES)[n % 3]} for n in range(count)]


def check(orders):
    """Return the orders whose currency is known."""
    return [order for order in orders if order["currency"] in RATES]


def rates(folder):
    """Return the rates. The server is down at the first call."""
    called = Path(folder, "rates-called")
    if not called.exists():
        called.touch()
        raise ConnectionError("the server of rates is down")
    return RATES


def invoice(folder, order, rate):
    """Write an invoice, and note the call."""
    if str(order["id"]) == HANGS_AT:
        time.sleep(60)
    total = order["amount"] * rate
    Path(folder, f"invoice-{order['id']}.json").write_text(json.dumps({"id": order["id"], "cents": total}))
    with Path(folder, "calls.txt").open("a") as calls:
        calls.write(f"{order['id']}\n")


def summary(orders, rate_of):
    """Return the number of invoices and their sum in euro cents."""
    return {"invoices": len(orders), "cents": sum(order["amount"] * rate_of[order["currency"]] for order in orders)}
