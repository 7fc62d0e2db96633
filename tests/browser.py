"""A real browser without a window: Debian's `chromium`, driven over pipes by the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/ (each message is JSON, with a NUL behind it)
"""

import base64
import json
import os
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.gateways import until

CHROMIUM = shutil.which("chromium")
PATIENCE = 60.0
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    # whatever a page asks for, nothing leaves this machine
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)


class Browser:
    """One tab. `requests` are the addresses of all that it has asked for."""

    def __init__(self, commands: int, events: int) -> None:
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self._commands = os.fdopen(commands, "wb", buffering=0)
        self._events = os.fdopen(events, "rb")
        self._next = 0
        self._session: str | None = None
        self._answers: dict[int, Any] = {}
        self._loads = 0
        self._news = threading.Condition()
        threading.Thread(target=self._read, name="browser", daemon=True).start()

    def attach(self, width: int, height: int, scale: float) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def open(self, url: str) -> None:
        """Go to an address, and return when the page has loaded."""
        loads = self._loads
        self.call("Page.navigate", url=url)
        with self._news:
            assert self._news.wait_for(lambda: self._loads > loads, PATIENCE), url

    def value(self, script: str) -> Any:
        """What a script gives, once its promise has been kept."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Return once a script gives true, whatever page it is asked of."""
        guarded = f"(() => {{ try {{ return Boolean({condition}) }} catch {{ return false }} }})()"

        def is_true() -> bool:
            try:
                return self.value(guarded) is True
            except AssertionError:  # the page is being left
                return False

        until(is_true)

    def text(self) -> str:
        return str(self.value("document.body.innerText"))

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def call(self, method: str, **parameters: Any) -> Any:
        """What a command of the protocol gives."""
        self._next += 1
        number, message = self._next, {"id": self._next, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        with self._news:
            assert self._news.wait_for(lambda: number in self._answers, PATIENCE), method
            answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _read(self) -> None:
        pending = deque[bytes]()
        while chunk := self._events.read1(65536):
            *whole, rest = chunk.split(b"\0")
            for end in whole:
                self._take(json.loads(b"".join([*pending, end])))
                pending.clear()
            pending.append(rest)

    def _take(self, message: Any) -> None:
        with self._news:
            match message:
                case {"id": number}:
                    self._answers[number] = message
                case {"method": "Network.requestWillBeSent", "params": {"request": {"url": url}}}:
                    self.requests.append(url)
                case {"method": "Network.webSocketCreated", "params": {"url": url}}:
                    self.requests.append(url)
                case {"method": "Page.javascriptDialogOpening", "params": {"message": said}}:
                    self.dialogs.append(said)
                case {"method": "Page.loadEventFired"}:
                    self._loads += 1
            self._news.notify_all()


@contextmanager
def browser(profile: Path, width: int = 1200, height: int = 900, scale: float = 1) -> Iterator[Browser]:
    """A browser with a profile of its own in a folder. `scale`: pixels of a picture for each of the page."""
    assert CHROMIUM, "there is no chromium (apt-get install chromium)"
    (commands_out, commands_in), (events_out, events_in) = os.pipe(), os.pipe()
    command = f'exec "$0" "$@" 3<&{commands_out} 4>&{events_in}'
    process = subprocess.Popen(
        ["bash", "-c", command, CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(commands_out, events_in),
        stderr=subprocess.DEVNULL,
    )
    os.close(commands_out)
    os.close(events_in)
    try:
        tab = Browser(commands_in, events_out)
        tab.attach(width, height, scale)
        yield tab
    finally:
        process.kill()
        process.wait(PATIENCE)
