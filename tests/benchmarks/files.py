"""Reading a large capture (`mitmdump -n -r`): CPU and memory, beside mitmdump without any script."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow

from tests.benchmarks.table import Figure
from tests.mitmdump import ADDON, MITMDUMP, clean_environment, rows
from tests.sessions import session

MB = 1_000_000
DB = "read.db"


def run(quick: bool) -> list[Figure]:
    figures = []
    for size in (20 * MB,) if quick else (50 * MB, 200 * MB):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            capture = folder / "large.flow"
            calls = _write(capture, size)
            found = {variant: _read(variant, capture, folder) for variant in ("bare", "ours", "null")}
            ((recorded,),) = map(dict.values, rows(folder / DB, "SELECT COUNT(*) FROM requests"))
            assert recorded == calls
        what = f"reading {size // MB} MB"
        cpu, memory = ({variant: values[place] for variant, values in found.items()} for place in (0, 1))
        figures += [
            Figure(what, "s CPU", cpu["bare"], cpu["ours"], cpu["null"], "2.0"),
            Figure("… memory", "MB", memory["bare"], memory["ours"], memory["null"], "flat"),
        ]
    return figures


def _write(path: Path, size: int) -> int:
    """Conversations one after the other, each of 60 turns, until there are so many bytes. Returns how many calls."""
    with path.open("wb") as file:
        writer = FlowWriter(file)
        seed, clock, calls = 0, 1_800_000_000.0, 0
        while file.tell() < size:
            seed += 1
            for turn in session("messages", 60, seed=seed):
                flow = tflow.tflow(resp=True)
                flow.request.method, flow.request.path = "POST", "/v1/messages"
                flow.request.host, flow.request.port = "api.anthropic.com", 443
                clock += 10.0
                flow.request.timestamp_start, flow.request.timestamp_end = clock, clock + 0.1
                flow.request.headers["content-type"] = "application/json"
                flow.request.content = turn.request
                assert flow.response
                flow.response.headers["content-type"] = "application/json"
                flow.response.content = json.dumps(turn.answer).encode()
                writer.add(flow)
                calls += 1
    return calls


MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""
"""A small program between, because what a process has held counts for those that it starts."""


def _read(variant: str, capture: Path, folder: Path) -> tuple[float, float]:
    """Seconds of CPU, and the most memory held, in MB."""
    ours = ["-s", str(ADDON), f"--set=gateway_db={folder / DB}"] if variant == "ours" else []
    command = [str(MITMDUMP), *ours, f"--set=confdir={folder}", "--flow-detail", "0", "-n", "-r", str(capture)]
    told = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, env=clean_environment(), check=True
    )
    code, seconds, memory = told.stdout.split()
    assert code == b"0"
    return float(seconds), float(memory)
