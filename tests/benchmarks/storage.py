"""How large a database grows: sessions are read as a live proxy reads them, stored, and every body is read back."""

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from gateway_addon import api
from gateway_addon.api import KINDS
from gateway_addon.call import Destination, Passage, open_call, read_request
from gateway_addon.cost import PriceTable
from gateway_addon.outcome import CLEAN
from gateway_addon.reading import Reading, finish
from gateway_addon.store.bodies import load_body
from gateway_addon.store.database import open_readonly
from gateway_addon.store.writer import Writer
from gateway_addon.wire.elements import Memory
from gateway_addon.wire.headers import Headers
from tests.benchmarks.table import Figure
from tests.sessions import Turn, session

MB = 1_000_000
STARTED = 1_795_341_600.0
"""Seconds since the epoch."""


class Growth(NamedTuple):
    sent: int
    """Bytes of request bodies."""
    stored: int
    """Bytes of the file."""
    wrong: int
    """Bodies that are not given back as they were sent."""


def measure(path: Path, kind: str, turns: int, *, scale: float = 1.0) -> Growth:
    """Store a session in a new database and read its bodies back."""
    calls = {f"call-{number}": turn for number, turn in enumerate(session(kind, turns, scale=scale))}
    writer = Writer(path, "bench")
    memory = Memory(api.members)
    prices = PriceTable()
    prices.load()
    for number, (name, turn) in enumerate(calls.items()):
        reading = _reading(writer.run_id, name, kind, number, turn, memory)
        writer.finish(*finish(reading, CLEAN, None, prices), wait=True)
    loss = writer.close(timeout=600)
    assert (loss.rows, loss.texts) == (0, 0)
    with open_readonly(path) as db:
        wrong = sum(load_body(db, name) != turn.request for name, turn in calls.items())
    return Growth(sum(len(turn.request) for turn in calls.values()), path.stat().st_size, wrong)


def _reading(run_id: str, name: str, kind: str, number: int, turn: Turn, memory: Memory) -> Reading:
    started = STARTED + 20 * number
    there = Destination(
        host="api.example.com",
        path=f"/v1{KINDS[kind].SUFFIX}",
        provider=None,
        dialect=None,
        model=None,
        payer="client",
        client_credential=None,
    )
    request = read_request("POST", there.path, Headers({"x-session-id": "bench"}), turn.request, memory)
    passage = Passage(kind=KINDS[kind], destination=there)
    reading = Reading(open_call(request, passage, id=name, run_id=run_id, source="live", started=started, failed=_fail))
    reading.start(200, Headers({"content-type": "application/json"}))
    reading.receive(json.dumps(turn.answer).encode(), started + 5)
    return reading


def _fail(error: Exception) -> None:
    raise error


def run(quick: bool) -> list[Figure]:
    figures = []
    for kind in KINDS:
        for turns in (60,) if quick else (60, 240):
            with tempfile.TemporaryDirectory() as folder:
                growth = measure(Path(folder, "gateway.db"), kind, turns)
            assert growth.wrong == 0
            name = f"database of {turns} turns, {growth.sent / MB:.0f} MB sent, {kind}"
            figures.append(Figure(name, "MB", None, growth.stored / MB, goal="0.75" if turns == 60 else ""))
    return figures
