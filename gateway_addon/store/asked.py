"""Requests as they were sent, with their rows: for whoever compares them or takes them apart."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sqlite_utils import Database

from gateway_addon.api.base import Json
from gateway_addon.record import COLUMNS, Record, from_row
from gateway_addon.store.bodies import DamagedError, load_body
from gateway_addon.wire import jsontext


class Sent(NamedTuple):
    record: Record
    body: Json | None
    """None: it is not stored, or is no JSON object."""


_ROW = f"SELECT {', '.join(COLUMNS)} FROM requests WHERE id = ?"

_OF_ITS_SESSION = """
    SELECT requests.id FROM requests, requests AS asked
    WHERE asked.id = ? AND (requests.id = asked.id OR requests.session_id = asked.session_id)
    ORDER BY requests.started_at, requests.id"""

_OF_VERSION = """
    SELECT id FROM requests WHERE client = :client AND client_version = :version ORDER BY started_at, id"""

# the newest turn of the agent itself; of a session that has none, the newest call there is
_REPRESENTATIVE = """
    SELECT id FROM requests
    WHERE id IN (SELECT value FROM json_each(:ids)) AND COALESCE(envelope_id, whole_body_id) IS NOT NULL
    ORDER BY side_request IS NOT NULL, agent_id IS NOT NULL, started_at DESC, id DESC LIMIT 1"""


def sent(db: Database, ids: Iterable[str]) -> Iterator[Sent]:
    """What these calls sent."""
    for request_id in ids:
        record = from_row(next(db.query(_ROW, [request_id])))
        try:
            body = load_body(db, request_id)
        except DamagedError:
            body = None
        yield Sent(record, None if body is None else jsontext.parse_object(body))


def session_of(db: Database, request_id: str) -> list[str]:
    """The ids of all calls of a call's session, itself included, oldest first."""
    return [row[0] for row in db.execute(_OF_ITS_SESSION, [request_id]).fetchall()]


def of_version(db: Database, client: str, version: str) -> list[str]:
    """The ids of the calls of one version of an agent, oldest first."""
    return [row[0] for row in db.execute(_OF_VERSION, {"client": client, "version": version}).fetchall()]


def representative(db: Database, ids: Iterable[str]) -> str | None:
    """The call that stands for several: the latest turn of the main agent whose body is stored, rather than that of a
    sub-agent, rather than a request beside the conversation. None: of none the body is stored."""
    row = db.execute(_REPRESENTATIVE, {"ids": jsontext.dumps(list(ids))}).fetchone()
    return None if row is None else str(row[0])
