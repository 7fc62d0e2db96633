"""Reading a large capture (`mitmdump -n -r`): CPU and memory, beside mitmdump without any script."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow

from tests.benchmarks.table import Figure
from tests.mitmdump import ADDON, MITMDUMP, clean_environment
from tests.sessions import session

MB = 1_000_000


def run(quick: bool) -> list[Figure]:
    figures = []
    for size in (20 * MB,) if quick else (50 * MB, 200 * MB):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            capture = folder / "large.flow"
            _write(capture, size)
            found = {variant: _read(variant, capture, folder) for variant in ("bare", "ours", "null")}
        what = f"reading {size // MB} MB"
        cpu, memory = ({variant: values[place] for variant, values in found.items()} for place in (0, 1))
        figures += [
            Figure(what, "s CPU", cpu["bare"], cpu["ours"], cpu["null"], "2.0"),
            Figure("… memory", "MB", memory["bare"], memory["ours"], memory["null"], "flat"),
        ]
    return figures


def _write(path: Path, size: int) -> None:
    """Conversations one after the other, each of 60 turns, until there are so many bytes."""
    with path.open("wb") as file:
        writer = FlowWriter(file)
        seed = 0
        while file.tell() < size:
            seed += 1
            for turn in session("messages", 60, seed=seed):
                flow = tflow.tflow(resp=True)
                flow.request.path, flow.request.host = "/v1/messages", "api.anthropic.com"
                flow.request.headers["content-type"] = "application/json"
                flow.request.content = turn.request
                assert flow.response
                flow.response.headers["content-type"] = "application/json"
                flow.response.content = json.dumps(turn.answer).encode()
                writer.add(flow)


def _read(variant: str, capture: Path, folder: Path) -> tuple[float, float]:
    """Seconds of CPU, and the most memory held, in MB."""
    ours = ["-s", str(ADDON), f"--set=gateway_db={folder / 'read.db'}"] if variant == "ours" else []
    command = [str(MITMDUMP), *ours, f"--set=confdir={folder}", "--flow-detail", "0", "-n", "-r", str(capture)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=clean_environment())
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
