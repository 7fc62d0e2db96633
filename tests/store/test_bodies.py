"""What of a request body is stored, how often, and that it is given back as it was."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from sqlite_utils import Database

from gateway_addon import api
from gateway_addon.content import Content
from gateway_addon.store.bodies import DamagedError, elements, load_body, stored_bodies
from gateway_addon.store.database import transaction
from gateway_addon.store.rows import replace_finished
from gateway_addon.wire.cut import edits
from gateway_addon.wire.elements import read
from tests.store.calls import make_record

QUESTION = "Why is the second player missing from the list of winners? " * 3
FINDING = "The loop ends one element before the end of the list.\n" * 3
ANSWER = "Because the range stops too early; the last index is never reached. " * 3
MARKER = {"cache_control": {"type": "ephemeral"}}


def encoded(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def put(db: Database, name: str, body: bytes | None, **texts: Any) -> None:
    sha256 = None if body is None else hashlib.sha256(body).hexdigest()
    with transaction(db):
        replace_finished(db, make_record(id=name, request_sha256=sha256), Content(body=body, **texts))


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text} | more]}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def messages(*turns: Any, **more: Any) -> bytes:
    return encoded({"model": "fake/coder", "messages": turns, **more})


def rows_added(db: Database, name: str, body: bytes) -> dict[str, int]:
    """By how many rows the tables grow with a call."""
    tables = ("contents", "elements", "nodes", "whole_bodies")
    before = {table: db[table].count for table in tables}
    put(db, name, body)
    return {table: db[table].count - before[table] for table in tables if db[table].count > before[table]}


def tip(db: Database, name: str) -> int:
    return int(db.execute("SELECT conversation_tip_id FROM requests WHERE id = ?", [name]).fetchone()[0])


class TestGivingBack:
    @pytest.mark.parametrize(
        "body",
        [
            messages(user(QUESTION, **MARKER), assistant("ü—\n"), system="be brief", tools=[{"name": "bash"}]),
            json.dumps({"messages": [user("ü"), assistant(QUESTION)], "system": [{"text": ANSWER}]}, indent=2).encode(),
            b'{"messages":[],"model":"m"}',
            b'{"messages":[1, 2,3]}',
            b'{"messages":["\\ud800","%s\\u0000"]}' % (b"x" * 100),
            b'\xef\xbb\xbf{"input":"hello"} ',
            b"",
            b"\xff\x00 no JSON",
            b"[" * 100_000,
        ],
        ids=lambda body: repr(body[:30]),
    )
    def test_every_byte(self, db: Database, body: bytes):
        put(db, "a", body)
        assert load_body(db, "a") == body
        assert stored_bodies(db) == ["a"]

    def test_what_is_not_stored_is_none(self, db: Database):
        put(db, "a", None)
        assert load_body(db, "a") is None
        assert stored_bodies(db) == []

    def test_reading_a_flow_again_replaces_its_body(self, db: Database):
        put(db, "a", messages(user("one")))
        put(db, "a", b"now no JSON")
        assert load_body(db, "a") == b"now no JSON"
        put(db, "a", None)
        assert load_body(db, "a") is None


class TestStoredOnce:
    def test_a_turn_adds_its_new_elements_only(self, db: Database):
        turns: list[Any] = [user(QUESTION)]
        # its element, text and envelope
        assert rows_added(db, "1", messages(*turns)) == {"contents": 2, "elements": 1, "nodes": 1}
        turns += [assistant(ANSWER), user(FINDING)]
        # an envelope for several elements, which is the last that is new
        assert rows_added(db, "2", messages(*turns)) == {"contents": 3, "elements": 2, "nodes": 2}
        turns += [assistant(ANSWER + "2"), user(FINDING + "2")]
        assert rows_added(db, "3", messages(*turns)) == {"contents": 2, "elements": 2, "nodes": 2}

    def test_a_retry_adds_nothing(self, db: Database):
        put(db, "1", messages(user(QUESTION)))
        assert rows_added(db, "2", messages(user(QUESTION))) == {}
        assert tip(db, "1") == tip(db, "2")

    def test_a_fork_shares_what_came_before(self, db: Database):
        put(db, "1", messages(user(QUESTION), assistant(ANSWER), user("this way")))
        assert rows_added(db, "2", messages(user(QUESTION), assistant(ANSWER), user("that way"))) == {
            "elements": 1,
            "nodes": 1,
        }

    def test_a_compacted_history_shares_its_texts(self, db: Database):
        put(db, "1", messages(user("go on"), assistant(ANSWER), user(QUESTION)))
        assert rows_added(db, "2", messages(user("in short"), user(QUESTION))) == {"elements": 1, "nodes": 2}

    def test_what_was_once_sent_whole_is_found_again(self, db: Database):
        put(db, "1", b"no JSON")
        assert rows_added(db, "2", b"no JSON") == {}

    def test_system_prompt_and_tools(self, db: Database):
        more = {"system": [{"type": "text", "text": FINDING}], "tools": [{"name": "bash"}, {"name": "edit"}]}
        put(db, "1", messages(user("a"), **more))
        assert rows_added(db, "2", messages(user("b"), **more)) == {"elements": 1, "nodes": 1}

    def test_a_marker_that_moves_and_a_billing_line_store_nothing_again(self, db: Database):
        def system(billing: str) -> Any:
            return [
                {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1.86; cch={billing};"},
                {"type": "text", "text": FINDING, **MARKER},
            ]

        first = messages(user("hi"), user(QUESTION, **MARKER), system=system("9f3"))
        second = messages(user("hi"), user(QUESTION), user("and?", **MARKER), system=system("07c"))
        put(db, "1", first)
        assert rows_added(db, "2", second) == {"elements": 1, "nodes": 1}
        assert (load_body(db, "1"), load_body(db, "2")) == (first, second)

    def test_a_marker_that_comes_again_in_a_body_is_stored_once(self, db: Database):
        body = messages(user("hi", **MARKER), user(QUESTION, **MARKER), user("and?", **MARKER))
        put(db, "1", body)
        ((stored,),) = db.execute("SELECT body_edits FROM requests").fetchall()
        assert stored.count("ephemeral") == 1
        assert load_body(db, "1") == body

    def test_edits_are_read_as_older_files_have_them(self, db: Database):
        body = messages(user("hi", **MARKER), user(QUESTION, **MARKER))
        put(db, "1", body)
        old = [list(edit) for part in read(body, api.members()).parts for edit in edits(part)]
        db.execute("UPDATE requests SET body_edits = ?", [json.dumps(old)])
        assert load_body(db, "1") == body

    @pytest.mark.parametrize(
        ("texts", "element"),
        [
            ({"answer_text": ANSWER}, assistant(ANSWER)),
            ({"answer_text": ANSWER}, {"role": "assistant", "content": ANSWER}),
            ({"reasoning_text": ANSWER}, {"role": "assistant", "content": [{"type": "thinking", "thinking": ANSWER}]}),
            ({"user_prompt": ANSWER}, user(ANSWER)),
            ({"user_prompt": ANSWER}, user(ANSWER, **MARKER)),
        ],
    )
    def test_a_text_of_a_call_is_the_text_in_a_later_history(
        self, db: Database, texts: dict[str, str], element: dict[str, Any]
    ):
        put(db, "1", messages(user("hi")), **texts)
        before = db["contents"].count
        put(db, "2", messages(user("hi"), element))
        # the envelope of several elements
        assert db["contents"].count == before + 1


class TestPlainSql:
    def test_texts_are_read_without_the_addon(self, db: Database):
        put(db, "1", messages(user(QUESTION), max_tokens=500))
        found = db.execute("SELECT text FROM contents JOIN element_texts ON content_id = contents.id").fetchall()
        assert found == [(QUESTION,)]
        settings = "SELECT json_extract(text, '$.max_tokens') FROM contents JOIN requests ON envelope_id = contents.id"
        assert db.execute(settings).fetchall() == [(500,)]

    def test_a_conversation_is_a_chain(self, db: Database):
        put(db, "1", messages(user(QUESTION, **MARKER), assistant("short"), user("thanks")))
        assert [json.loads(text) for text in elements(db, tip(db, "1"))] == [
            user(QUESTION),
            assistant("short"),
            user("thanks"),
        ]


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            ["UPDATE contents SET text = replace(text, 'winners', 'losers')"],
            ["UPDATE contents SET text = '[' WHERE id = (SELECT envelope_id FROM requests)"],
            ["UPDATE contents SET text = ''"],
            ["UPDATE elements SET template = '{}'"],
            ["DELETE FROM contents"],
            ["DELETE FROM element_texts"],
            ["DELETE FROM nodes WHERE parent_id IS NULL"],
            ["UPDATE requests SET body_edits = NULL"],
            ["UPDATE requests SET body_edits = '[[1]]'"],
            ["""UPDATE requests SET body_edits = '[["conversation", 9, 0, "x"]]'"""],
            ["""UPDATE requests SET body_edits = '{"conversation": [[9, 0, "x"]]}'"""],
            ["""UPDATE requests SET body_edits = '{"conversation": [[0, 0, 7]]}'"""],
            ["UPDATE requests SET body_edits = '5'"],
            ["UPDATE requests SET body_edits = 'no JSON'"],
            ["UPDATE requests SET request_sha256 = NULL"],
            ["UPDATE requests SET whole_body_id = 7"],
            ["INSERT INTO whole_bodies VALUES (7, x'', x'28b52ffd')", "UPDATE requests SET whole_body_id = 7"],
        ],
        ids="; ".join,
    )
    def test_is_told_and_never_given_out(self, db: Database, damage: Sequence[str]):
        put(db, "1", messages(user(QUESTION, **MARKER), assistant("short")))
        for sql in damage:
            db.execute(sql)
        with pytest.raises(DamagedError, match="the body of 1 is damaged"):
            load_body(db, "1")
