"""A real Chromium without a window, driven through its DevTools protocol; and what a page of it shows."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

PATIENCE = 30.0
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ROWS = "[...document.querySelectorAll('.xterm-rows > div')].map((row) => row.textContent).join('\\n')"


class Browser:
    """A browser with a profile of its own in a folder."""

    def __init__(self, folder: Path) -> None:
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if program is None:
            pytest.fail(f"none of {', '.join(NAMES)} was found: install one, on Debian by `apt-get install chromium`")
        flags = ["--headless", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        self._process = subprocess.Popen(
            [program, *flags, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._pages: list[Page] = []
        deadline = time.monotonic() + PATIENCE
        told = folder / "DevToolsActivePort"
        while not (told.exists() and "\n" in (text := told.read_text())):
            assert time.monotonic() < deadline and self._process.poll() is None, "the browser does not start"
            time.sleep(0.02)
        self._port = int(text.split()[0])

    def open(self, url: str = "about:blank") -> Page:
        """A new tab."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            page = Page(json.load(answer)["webSocketDebuggerUrl"])
        self._pages.append(page)
        if url != "about:blank":
            page.go(url)
        return page

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for page in self._pages:
            page.let_go()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Moved(Exception):
    """The page went elsewhere before it answered."""


class Page:
    """A tab: go somewhere, press keys, and read what a person would see."""

    def __init__(self, address: str) -> None:
        self._open = ExitStack()
        self._socket: ClientConnection = self._open.enter_context(connect(address, max_size=None, compression=None))
        self._number = 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.bringToFront")  # what is not seen is neither painted nor given keys

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """One command of the protocol; its result. What the page complained of meanwhile is kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": given}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("id") == self._number:
                if "navigated or closed" in str(message.get("error")):
                    raise Moved
                assert "error" not in message, message
                return dict(message["result"])
            if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(json.dumps(message["params"]))

    def go(self, url: str) -> None:
        """To a URL, as if it was typed."""
        self.call("Page.navigate", url=url)

    def reload(self) -> None:
        """Load it again."""
        self.call("Page.reload")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str, text: str = "", code: int = 0) -> None:
        """Press and let go of one key, such as `a` or `Enter`."""
        text = text or (key if len(key) == 1 else "")
        code = code or (ord(key.upper()) if len(key) == 1 else 0)
        for kind in ("keyDown", "keyUp"):
            given = {"type": kind, "key": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", **given, **({"text": text} if kind == "keyDown" and text else {}))

    def resize(self, width: int, height: int) -> None:
        """Make the window another size, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self) -> bytes:
        """A PNG of what it shows."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self.run("location.href"))

    @property
    def text(self) -> str:
        """What it shows: the rows of its terminal if it has one, and any other text."""
        return str(self.run(f"{ROWS} + '\\n' + (document.body?.innerText ?? '')")).replace("\xa0", " ")

    def until(self, found: str | Callable[[str], bool]) -> str:
        """Wait until it shows a text, or a test of its text is true; the text."""
        test = found if callable(found) else lambda text: found in text
        deadline = time.monotonic() + PATIENCE
        text = ""
        while True:
            try:
                if test(text := self.text):
                    return text
            except Moved:
                pass  # and is asked again, where it is now
            assert time.monotonic() < deadline, f"{found!r} does not come:\n{text}\n{self.complaints}"
            time.sleep(0.03)

    def let_go(self) -> None:
        """Drive it no more."""
        self._open.close()

    def close(self) -> None:
        """Close the tab, and wait until it is gone: as it goes, the browser brings another to the front."""
        self.call("Page.close")
        with suppress(ConnectionClosed):
            while True:
                self._socket.recv(timeout=PATIENCE)
