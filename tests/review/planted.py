"""Recorded calls with things planted in them to be found."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from gateway_addon.api import KINDS
from gateway_addon.api.base import ToolCall
from gateway_addon.content import Content, limited
from gateway_addon.record import Record
from gateway_addon.review import review
from gateway_addon.review.findings import Finding
from gateway_addon.store.database import open_readonly
from gateway_addon.store.writer import Writer
from tests.store.calls import make_record

Call = tuple[Record, Content]

# put together here, so that nobody's scanner takes them for keys that have leaked
KEY = "sk-" + "ant-" + "Zq8mW2rT5yB9nK4vX7cL"
PASSWORD = "turnip-" + "Gravy-42"


def call(
    body: Any, *, number: int = 1, mode: str = "full", answer: dict[str, Any] | None = None, **columns: Any
) -> Call:
    """A finished call `call-<number>` that sent a body to api.example; `answer`: fields of `Content`."""
    sent = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    defaults = {
        "id": f"call-{number}",
        "started_at": f"2026-11-22T10:{number:02}:00.000Z",
        "api_kind": "chat_completions",
        "upstream_host": "api.example",
        "provider": "example",
        "session_id": "session-1",
        "request_bytes": len(sent),
        "request_sha256": hashlib.sha256(sent).hexdigest(),
    }
    record = make_record(**defaults | columns)
    facts = KINDS[record.api_kind].read_request({} if isinstance(body, bytes) else body)
    asked = {
        "system_prompt": facts.system_prompt,
        "user_prompt": facts.user_prompt,
        "tool_results": facts.tool_results,
        "body": sent,
    }
    return limited(record, Content(**asked | (answer or {})), mode)


def tool_call(name: str, arguments: Any, call_id: str = "c-1") -> ToolCall:
    return ToolCall(call_id, name, "function", "client", json.dumps(arguments))


def write(path: Path, *calls: Call) -> None:
    writer = Writer(path, "1.2.3")
    for record, content in calls:
        writer.finish(record, content, wait=True)
    assert not writer.close().rows


def findings(path: Path, environment: dict[str, str] | None = None) -> list[Finding]:
    with closing(open_readonly(path)) as db:
        return review(db, environment or {}).findings


def found(path: Path, *calls: Call, environment: dict[str, str] | None = None) -> list[Finding]:
    """The findings of a new database with these calls."""
    write(path, *calls)
    return findings(path, environment)


def rules(found: Iterable[Finding]) -> list[str]:
    return [finding.rule for finding in found]
