"""The Textual driver of a dashboard that is shown in a page."""

from __future__ import annotations

import base64
import os
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

from textual import events, messages
from textual.drivers.web_driver import WebDriver

MAX_FILE_BYTES = 64 * 1024 * 1024  # the program, the server and the page each hold a file in memory


class PageDriver(WebDriver):
    """Textual's web driver. Ends with its server, and delivers files to the page."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Standard output carries packets. Other writers, such as child processes, are redirected to standard error.
        output = os.dup(self.fileno)
        os.dup2(2, self.fileno)
        self._write = partial(os.write, output)

    def run_input_thread(self) -> None:
        """Read until the input ends, then end the program: the server has ended or was killed."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(messages.ExitApp())

    def deliver_binary(
        self,
        binary: BinaryIO | TextIO,
        *,
        delivery_key: str,
        save_path: Path,
        open_method: Literal["browser", "download"] = "download",  # noqa: ARG002
        encoding: str | None = None,
        mime_type: str | None = None,
        name: str | None = None,
    ) -> None:
        """Send a file of at most `MAX_FILE_BYTES` to the page, which saves it as a download. O(size)."""
        with binary:
            binary.seek(0)
            data = binary.read(MAX_FILE_BYTES + 1)
        content = data.encode(encoding or "utf-8") if isinstance(data, str) else data
        if len(content) > MAX_FILE_BYTES:
            error = OSError(f"{save_path.name} is over {MAX_FILE_BYTES // 1024 // 1024} MB, too large for the page")
            self._delivery_failed(delivery_key, error, name)
            return
        packed = base64.b64encode(content).decode()
        self.write_meta({"type": "file", "name": save_path.name, "kind": mime_type or "", "base64": packed})
        self._delivery_complete(delivery_key, save_path=None, name=name)

    def _delivery_complete(self, delivery_key: str, save_path: Path | None, name: str | None) -> None:
        """Report a delivery. Textual's own method waits for the app's thread, where the file of a page is sent."""
        self._app.post_message(events.DeliveryComplete(key=delivery_key, path=save_path, name=name))

    def _delivery_failed(self, delivery_key: str, exception: BaseException, name: str | None) -> None:
        """Report a failed delivery, as `_delivery_complete`."""
        self._app.post_message(events.DeliveryFailed(key=delivery_key, exception=exception, name=name))
