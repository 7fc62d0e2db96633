"""Calls that leave their history out: session and prompt come from the calls before."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from sqlite_utils import Database

from gateway_addon.content import Content
from gateway_addon.store.database import transaction
from gateway_addon.store.rows import replace_finished
from tests.store.calls import make_record


def put(db: Database, prompt: str | None = None, **columns: Any) -> None:
    with transaction(db):
        replace_finished(db, make_record(**columns), Content(user_prompt=prompt))


def turn(request_id: str, second: int, previous: str | None = None, **columns: Any) -> dict[str, Any]:
    return {
        "id": request_id,
        "started_at": f"2026-11-22T10:00:0{second}.000Z",
        "response_id": f"resp_{request_id}",
        "previous_id": previous,
    } | columns


def known(db: Database) -> list[tuple[str | None, ...]]:
    sql = """SELECT requests.session_id, conversation_id, user_prompt
             FROM requests JOIN prompts ON request_id = requests.id ORDER BY requests.id"""
    return [tuple(row.values()) for row in db.query(sql)]


FIRST = turn("a", 0, session_id="s", conversation_id="c", prompt="Why?")
TURNS = [FIRST, turn("b", 1, "resp_a"), turn("c", 2, "resp_b"), turn("d", 3, "resp_c", prompt="And now?")]
EXPECTED = [("s", "c", "Why?")] * 3 + [("s", "c", "And now?")]


@pytest.mark.parametrize("order", list(permutations(TURNS)), ids=lambda turns: "".join(turn["id"] for turn in turns))
def test_a_chain_is_known_whatever_the_order_it_is_read_in(db: Database, order: Sequence[dict[str, Any]]):
    for columns in order:
        put(db, **columns)
    assert known(db) == EXPECTED


def test_reading_it_again_changes_nothing(db: Database):
    for columns in [*TURNS, *TURNS]:
        put(db, **columns)
    assert known(db) == EXPECTED


def test_what_a_call_says_itself_stays(db: Database):
    put(db, **FIRST)
    put(db, **turn("b", 1, "resp_a", session_id="mine", conversation_id="own", prompt="No."))
    assert known(db)[1] == ("mine", "own", "No.")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(turn("b", 1, "resp_elsewhere"), id="of an answer nobody saw"),
        pytest.param(turn("b", 1), id="that says nothing"),
        pytest.param(turn("b", 1, "resp_b"), id="of its own answer"),
        pytest.param(turn("0", 0, "resp_a") | {"started_at": "2026-11-22T09:00:00.000Z"}, id="before that answer"),
    ],
)
def test_nothing_is_guessed_for_a_continuation(db: Database, other: dict[str, Any]):
    put(db, **FIRST)
    put(db, **other)
    assert (None, None, None) in known(db)


def test_a_conversation_kept_on_the_server_is_known_by_its_own_id(db: Database):
    put(db, **turn("a", 0, "conv_1", session_id="conv_1", prompt="Why?"))
    put(db, **turn("b", 1, "conv_1", session_id="conv_1", prompt="And now?"))
    put(db, **turn("c", 2, "conv_1", session_id="conv_1"))
    assert [prompt for *_, prompt in known(db)] == ["Why?", "And now?", "And now?"]


def test_calls_that_continue_each_other_do_not_keep_it_busy(db: Database):
    put(db, **turn("a", 0, "resp_b", session_id="s"))
    put(db, **turn("b", 0, "resp_a", prompt="Why?"))
    assert {session for session, *_ in known(db)} == {"s"}
