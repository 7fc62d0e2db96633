"""A database of many calls, to see what looking into one costs: `python -m tests.make_large OUT.db` (some minutes).

The calls are those of the demo and of the catalogue (`flows/`), over and over: every few hundred are a session of its
own, half a minute apart, with other words in each answer.
"""

import argparse
import os
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import batched, islice
from pathlib import Path

from mitmproxy import eventsequence
from mitmproxy.http import HTTPFlow

from gateway_addon import config
from gateway_addon.captures import flowfile
from gateway_addon.content import Content
from gateway_addon.cost import PriceTable
from gateway_addon.masking import Mask
from gateway_addon.proxy.calls import Calls
from gateway_addon.proxy.hooks import GatewayAddon
from gateway_addon.proxy.options import Options
from gateway_addon.record import Record
from gateway_addon.sinks import Sinks
from gateway_addon.store.database import open_database, transaction
from gateway_addon.store.rows import replace_finished
from tests.make_demo import DEMO
from tests.sessions import text

CALLS = 100_000
CALLS_OF_A_SESSION = 300
SECONDS_BETWEEN = 30
ANSWER = 400
"""Characters."""

AT_ONCE = 500
"""Calls in a transaction."""


class Kept:
    """A sink that keeps the finished calls."""

    name = "a list"

    def __init__(self) -> None:
        self.calls: list[tuple[Record, Content]] = []

    def begin(self, record: Record) -> None:
        pass

    def finish(self, record: Record, content: Content, *, wait: bool) -> None:
        self.calls.append((record, content))

    def turn_away(self) -> None:
        pass

    def close(self) -> bool:
        return True


def calls_of(path: Path) -> list[tuple[Record, Content]]:
    """The calls of a flow file, as the addon makes them."""
    settings = config.load(None, os.environ)
    options = Options(
        db=path, settings=settings, mask=Mask(settings.secrets), content="full", body_limit=0, warn_usd=None,
        rewrite=False, otlp=False, replay_keys=False, streams_requests=False,
    )  # fmt: skip
    kept = Kept()
    prices = PriceTable()
    prices.load()
    addon = GatewayAddon()
    addon.calls = Calls(Sinks([kept]), "made", options, prices)
    for flow in flowfile.read(path, lambda size: None):
        if isinstance(flow, HTTPFlow):
            for hook in eventsequence.iterate(flow):
                if handler := getattr(addon, hook.name, None):
                    handler(*hook.args())
    addon.calls.close_all()
    return kept.calls


def many(calls: list[tuple[Record, Content]], chance: random.Random, now: float) -> Iterator[tuple[Record, Content]]:
    """The calls again and again, until now and never the same twice."""
    words = text(chance, 200_000)
    for number in range(CALLS):
        record, content = calls[number % len(calls)]
        session = f"session-{number // CALLS_OF_A_SESSION:05}"
        again = replace(
            record,
            id=str(uuid.UUID(int=chance.getrandbits(128))),
            started_at=now - (CALLS - number) * SECONDS_BETWEEN,
            session_id=session,
            agent_id=f"{session}-helper" if number % 10 == 9 else None,
            conversation_id=record.conversation_id and f"{record.conversation_id}-{session}",
        )
        start = chance.randrange(len(words) - ANSWER)
        yield again, replace(content, answer_text=f"{number}: {words[start : start + ANSWER]}")


def make(target: Path, count: int = CALLS) -> None:
    found = [call for path in sorted(DEMO.parent.glob("*.flow")) for call in calls_of(path)]
    chance = random.Random(1)
    with closing(open_database(target)) as db:
        with transaction(db):
            db.execute("INSERT INTO runs (id, pid, started_at, ended_at, version) VALUES ('made', 0, '', '', '0')")
        for some in batched(islice(many(found, chance, time.time()), count), AT_ONCE, strict=False):
            with transaction(db):
                for record, content in some:
                    replace_finished(db, replace(record, run_id="made"), content)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.make_large", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--calls", type=int, default=CALLS)
    arguments = parser.parse_args()
    make(arguments.out, arguments.calls)


if __name__ == "__main__":
    main()
