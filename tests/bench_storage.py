"""How large a database grows: `python -m tests.bench_storage` (half a minute, no network).

Sessions of 60, 120 and 240 turns are read as a file would be, stored, and every body is read back.
"""

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from gateway_addon.api import KINDS
from gateway_addon.call import Destination, Passage, open_call, read_request
from gateway_addon.cost import PriceTable
from gateway_addon.reading import CLEAN, Reading, finish
from gateway_addon.store.bodies import load_body
from gateway_addon.store.database import open_readonly
from gateway_addon.store.writer import Writer
from gateway_addon.wire.headers import Headers
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
    for number, (name, turn) in enumerate(calls.items()):
        reading = _reading(writer.run_id, name, kind, number, turn)
        writer.finish(*finish(reading, CLEAN, None, PriceTable()), wait=True)
    loss = writer.close(timeout=600)
    assert (loss.rows, loss.texts) == (0, 0)
    with open_readonly(path) as db:
        wrong = sum(load_body(db, name) != turn.request for name, turn in calls.items())
    return Growth(sum(len(turn.request) for turn in calls.values()), path.stat().st_size, wrong)


def _reading(run_id: str, name: str, kind: str, number: int, turn: Turn) -> Reading:
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
    request = read_request("POST", there.path, Headers({"x-session-id": "bench"}), turn.request)
    passage = Passage(kind=KINDS[kind], destination=there)
    reading = Reading(open_call(request, passage, id=name, run_id=run_id, source="live", started=started, failed=_fail))
    reading.start(200, Headers({"content-type": "application/json"}))
    reading.receive(json.dumps(turn.answer).encode(), started + 5)
    return reading


def _fail(error: Exception) -> None:
    raise error


def main() -> None:
    print("kind              turns     sent MB   stored MB   wrong bodies")
    for kind in KINDS:
        for turns in (60, 120, 240):
            with tempfile.TemporaryDirectory() as folder:
                growth = measure(Path(folder, "gateway.db"), kind, turns)
            print(f"{kind:<17} {turns:>5} {growth.sent / MB:>11.2f} {growth.stored / MB:>11.3f} {growth.wrong:>14}")


if __name__ == "__main__":
    main()
