"""Write invoices for orders, with state in a JSON file that this script keeps by itself.

Run it with `python examples/by_hand.py FOLDER [COUNT]`. `--steps` lists the steps, `--reset STEP` has this step and
those after it done again. `--restore STEP` brings back the state after a step, and `--changes STEP` shows what has
changed since.
"""

import argparse
import fcntl
import hashlib
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import orders as work

KEPT_CHECKPOINTS = 5  # of each step


class Busy(Exception):
    """Another process does the workflow."""


class Changed(Exception):
    """A step was done with other arguments."""


def write_atomically(path, value):
    new = path.with_name(path.name + ".new")
    with new.open("w") as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def only_one(path):
    """Hold a lock that ends with the process."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Busy(f"another run is going on: {file.read().strip()}") from None
        file.truncate(0)
        file.write(f"{socket.gethostname()}, process {os.getpid()}, since {time.ctime()}")
        file.flush()
        yield


class Workflow:
    """Steps whose results are kept in one file."""

    def __init__(self, folder):
        self.path = folder / "state.json"
        self.items_path = folder / "items.jsonl"  # appended to: the whole file is not written for each item
        self.checkpoints = folder / "checkpoints"
        self.state = {"state": "new", "steps": {}, "order": [], "values": {}}

    def load(self):
        try:
            self.state = json.loads(self.path.read_text())
        except FileNotFoundError:
            pass
        except ValueError as error:
            raise SystemExit(f"error: {self.path} is damaged ({error}); use --restore STEP") from error

    def save(self):
        write_atomically(self.path, self.state)

    def begin(self):
        if self.state["state"] == "done":
            self.state.update(steps={}, order=[])
            self.save()
            self.items_path.unlink(missing_ok=True)
        self.state["state"] = "running"
        self.save()

    def end(self):
        self.state["state"] = "done"
        self.save()

    def _record(self, name, arguments):
        digest = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
        record = self.state["steps"].setdefault(name, {"state": "waiting", "tries": 0})
        if record["state"] == "done" and record["arguments"] != digest:
            raise Changed(f"step {name!r} was done with other arguments; use --reset {name}")
        if name not in self.state["order"]:
            self.state["order"].append(name)
        record["arguments"] = digest
        return record

    def _started(self, record):
        record.update(state="running", began=time.time(), host=socket.gethostname(), process=os.getpid())
        record["tries"] += 1
        record.pop("error", None)
        self.save()

    def _finished(self, name, record, result):
        json.dumps(result, allow_nan=False)
        ended = time.time()
        record.update(state="done", ended=ended, duration=ended - record["began"], result=result)
        self.save()
        self._checkpoint(name)

    def _failed(self, record, error):
        interrupted = not isinstance(error, Exception)
        record["state"] = "interrupted" if interrupted else "failed"
        trace = traceback.format_exception(error)
        record["error"] = {"type": type(error).__name__, "message": str(error), "trace": "".join(trace)[-4000:]}
        self.save()

    def step(self, name, function, *args, retries=0, backoff=1.0, retry_on=()):  # noqa: RET503  the last try returns or raises
        record = self._record(name, args)
        if record["state"] == "done":
            return record["result"]
        for attempt in range(retries + 1):
            self._started(record)
            try:
                result = function(*args)
            except BaseException as error:
                self._failed(record, error)
                if attempt == retries or not isinstance(error, retry_on):
                    raise
                time.sleep(random.uniform(0.5, 1) * min(60, backoff * 2**attempt))
            else:
                self._finished(name, record, result)
                return result

    def each(self, name, items, key):
        record = self._record(name, [])
        if record["state"] == "done":
            return
        done = self._items_done(name)
        self._started(record)
        try:
            with self.items_path.open("a") as file:
                for item in items:
                    if item[key] not in done:
                        yield item
                        file.write(json.dumps([name, item[key]]) + "\n")
                        file.flush()
                        os.fsync(file.fileno())
        except BaseException as error:
            self._failed(record, error)
            raise
        self._finished(name, record, len(items))

    def _items_done(self, name):
        """Return the keys that are done, and cut off a line that a kill left unfinished."""
        if not self.items_path.exists():
            return set()
        content = self.items_path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self.items_path, len(whole))
        lines = [json.loads(line) for line in whole.splitlines()]
        return {key for step, key in lines if step == name}

    def _checkpoint(self, name):
        self.checkpoints.mkdir(exist_ok=True)
        write_atomically(self.checkpoints / f"{name}.{time.time_ns()}.json", self.state)
        for old in sorted(self.checkpoints.glob(f"{name}.*.json"))[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def _keep_items(self, names):
        if self.items_path.exists():
            lines = self.items_path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)[0] in names]
            new = self.items_path.with_name("items.new")
            new.write_text("".join(kept))
            new.replace(self.items_path)

    def reset(self, name):
        order = self.state["order"]
        if name not in order:
            raise SystemExit(f"error: there is no step {name!r}")
        later = order[order.index(name) :]
        self._keep_items(order[: order.index(name)])
        for step in later:
            del self.state["steps"][step]
        self.state.update(order=order[: order.index(name)], state="stopped")
        self.save()

    def _copy_after(self, name):
        copies = sorted(self.checkpoints.glob(f"{name}.*.json"))
        if not copies:
            raise SystemExit(f"error: there is no checkpoint after {name!r}")
        return json.loads(copies[-1].read_text())

    def restore(self, name):
        self.state = self._copy_after(name)
        self._keep_items(self.state["order"])
        self.save()

    def changes(self, name):
        before, after = results(self._copy_after(name)), results(self.state)
        for key in sorted(before.keys() | after.keys()):
            if key not in after:
                print(f"- {key} {json.dumps(before[key])}")
            elif key not in before:
                print(f"+ {key} {json.dumps(after[key])}")
            elif before[key] != after[key]:
                print(f"~ {key} {json.dumps(before[key])} -> {json.dumps(after[key])}")

    def show(self):
        print("run:", self.state["state"])
        for name in self.state["order"]:
            record = self.state["steps"][name]
            error = record.get("error", {}).get("message", "")
            print(f"{name:10} {record['state']:12} {record['tries']:3} {record.get('duration', 0):8.2f}s {error}")


def results(state):
    """Return the values and the results of steps by key."""
    return {f"steps/{name}": record.get("result") for name, record in state["steps"].items()} | state["values"]


def run(workflow, folder, count):
    workflow.begin()
    fetched = workflow.step("fetch", work.fetch, count)
    orders = workflow.step("check", work.check, fetched)
    rates = workflow.step("rates", work.rates, str(folder), retries=4, backoff=0.1, retry_on=ConnectionError)
    for order in workflow.each("invoices", orders, "id"):
        work.invoice(folder, order, rates[order["currency"]])
    workflow.state["values"]["report"] = workflow.step("publish", work.summary, orders, rates)
    workflow.end()
    print(workflow.state["values"]["report"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=20)
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--reset", metavar="STEP")
    parser.add_argument("--restore", metavar="STEP")
    parser.add_argument("--changes", metavar="STEP")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.steps or args.changes:
        workflow = Workflow(args.folder)
        workflow.load()
        workflow.changes(args.changes) if args.changes else workflow.show()
        return
    try:
        with only_one(args.folder / "lock"):
            workflow = Workflow(args.folder)
            if args.restore:
                workflow.restore(args.restore)
                return
            workflow.load()
            if args.reset:
                workflow.reset(args.reset)
            else:
                run(workflow, args.folder, args.count)
    except (Busy, Changed) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
