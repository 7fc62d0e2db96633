"""Records and texts to store, and a look at what was stored."""

from pathlib import Path
from typing import Any

from gateway_addon.content import Content
from gateway_addon.record import Record
from gateway_addon.store.database import open_readonly
from gateway_addon.times import seconds

RUN = "run-1"


def make_record(**columns: Any) -> Record:
    """A finished call; give the columns that matter."""
    defaults: dict[str, Any] = {
        "id": "call-1",
        "run_id": RUN,
        "started_at": "2026-11-22T10:00:00.000Z",
        "source": "live",
        "api_kind": "messages",
        "outcome": "complete",
        "request_model": "acme/model",
    }
    values = defaults | columns
    # a time may be given as it is stored
    if isinstance(values["started_at"], str):
        values["started_at"] = seconds(values["started_at"])
    return Record(**values)


def make_content(**fields: Any) -> Content:
    return Content(**{"system_prompt": "be brief", "user_prompt": "what is new?", "answer_text": "not much"} | fields)


def stored(path: Path, sql: str) -> list[dict[str, Any]]:
    """What a query gives to somebody who opens the file."""
    db = open_readonly(path)
    try:
        return list(db.query(sql))
    finally:
        db.close()


def mode(path: Path) -> int:
    """Who may read and write a file."""
    return path.stat().st_mode & 0o777


def folder(path: Path) -> dict[str, bytes]:
    """The files in a folder, and what they hold."""
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
