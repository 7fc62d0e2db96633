"""A real mitmweb on a file of flows, asked over HTTP as its own page asks."""

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.gateways import until
from tests.mitmdump import ADDON, PATIENCE, clean_environment, free_port, read_flows

MITMWEB = Path(sys.executable).with_name("mitmweb")
TOKEN = "for-this-test"


class Mitmweb:
    """`with Mitmweb(flows, confdir=…, options={"gateway_db": …}) as web:`; it has loaded them when it is entered."""

    def __init__(
        self, flows: Path, *, confdir: Path, options: Mapping[str, object], arguments: Sequence[str] = ()
    ) -> None:
        self._count = len(read_flows(flows))
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        settings = {"confdir": confdir, "web_password": TOKEN, "web_port": port, "web_host": "127.0.0.1", **options}
        self.process = subprocess.Popen(
            [
                *(MITMWEB, "-n", "-r", flows, "-s", ADDON, "--no-web-open-browser"),
                *(f"--set={name}={value}" for name, value in settings.items()),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(),
        )
        self._news = threading.Condition()
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        try:
            self.wait_for("Web server listening")
            self._until_loaded()
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)

    def wait_for(self, text: str) -> None:
        """Return once a text has been printed."""
        with self._news:
            self._news.wait_for(lambda: text in self.output or self.process.poll() is not None, PATIENCE)
            assert text in self.output, self.output

    def _until_loaded(self) -> None:
        """Return once the file has been read: mitmweb listens before."""
        until(lambda: len(self.get("/flows")) == self._count)

    def get(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, headers={"authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def command(self, name: str, *arguments: str) -> Any:
        """What a command gives back; an error as `{"error": …}`."""
        headers = {
            "authorization": f"Bearer {TOKEN}",
            "content-type": "application/json",
            "cookie": "_mitmproxy_xsrf=x",
            "x-xsrftoken": "x",
        }
        body = json.dumps({"arguments": arguments}).encode()
        request = urllib.request.Request(f"{self.url}/commands/{name}", body, headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return {"error": error.read().decode()}

    def view(self, flow: Mapping[str, Any], message: str = "response") -> Any:
        """How mitmweb shows a message when nothing is chosen: `text`, `view_name`, …"""
        return self.get(f"/flows/{flow['id']}/{message}/content/Auto.json")

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self.output += line
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()
