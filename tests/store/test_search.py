"""The full-text index: made and extended when somebody searches, and what it finds."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from gateway_addon.api import KINDS
from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.content import Content, limited
from gateway_addon.store import prune, search
from gateway_addon.store.database import transaction
from gateway_addon.store.rows import replace_finished
from tests.bodies import bodies, uneven
from tests.store.calls import make_record


def put(db: Database, content: Content, request_id: str = "a", **columns: Any) -> None:
    with transaction(db):
        replace_finished(db, make_record(id=request_id, **columns), content)


def find(db: Database, words: str, batch_size: int = 200) -> list[tuple[str, str, str | None]]:
    """As the command does it: extend the index, and look."""
    for batch in search.unindexed_texts(db, batch_size):
        search.index_texts(db, batch)
    return sorted((row["request_id"], row["place"], row["name"]) for row in search.find_texts(db, words, 20))


CALL = ToolCall("1", "bash", "tool_use", "client", '{"cmd": "grep orchard"}')


@pytest.mark.parametrize(
    ("content", "place", "name"),
    [
        (Content(system_prompt="Tend the orchard."), "system prompt", None),
        (Content(user_prompt="Where is the orchard?"), "user prompt", None),
        (Content(reasoning_text="An orchard has trees."), "reasoning", None),
        (Content(answer_text="The orchard is over there."), "answer", None),
        (Content(tool_calls=[CALL]), "tool arguments", "bash"),
        (Content(tool_results=[ToolResult("1", "bash", "one orchard", None)]), "tool result", "bash"),
    ],
)
def test_every_text_is_searched(db: Database, content: Content, place: str, name: str | None):
    put(db, content)
    assert find(db, "orchard") == [("a", place, name)]


PLACES = bodies("orchard")


@pytest.mark.parametrize("place", PLACES)
def test_a_word_is_found_wherever_in_a_body_it_stands_and_once(db: Database, place: str):
    kind, body = PLACES[place]
    facts = KINDS[kind].read_request(body)
    content = Content(facts.system_prompt, facts.user_prompt, tool_results=facts.tool_results)
    for name in "ba":
        content.body = json.dumps(body | {"turn": name}).encode()
        put(db, content, name, api_kind=kind, started_at=f"2026-11-22T10:00:0{ord(name) - 96}.000Z")
    find(db, "orchard")
    (row,) = search.find_texts(db, "orchard", 20)
    assert (row["request_id"], row["calls"]) == ("a", 2)


@pytest.mark.parametrize("body", [uneven("orchard"), b"no JSON, but an orchard", b"\xff orchard"])
def test_so_it_is_in_a_body_that_is_stored_whole(db: Database, body: bytes):
    put(db, Content(body=body))
    assert find(db, "orchard") == [("a", "request", None)]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("messages: system part", "system prompt"),
        ("messages: tool description", "tools"),
        ("chat_completions: assistant", "history"),
        ("responses: metadata", "request"),
    ],
)
def test_a_place_in_a_body_is_named(db: Database, place: str, said: str):
    put(db, Content(body=json.dumps(PLACES[place][1]).encode()))
    assert find(db, "orchard") == [("a", said, None)]


def test_what_a_model_said_is_found_once_however_often_it_is_sent_again(db: Database):
    call = ToolCall("c-1", "bash", "tool_use", "client", '{"cmd": "plant\\nan orchard"}')
    put(db, Content(answer_text="An orchard!", tool_calls=[call]), "a", started_at="2026-11-22T10:00:00.000Z")
    blocks = [
        {"type": "text", "text": "An orchard!"},
        {"type": "tool_use", "id": "c-1", "name": "bash", "input": {"cmd": "plant\nan orchard"}},
    ]
    for number, name in enumerate("bc", start=1):
        body = {"messages": [{"role": "assistant", "content": blocks}, *[{"role": "user", "content": "x"}] * number]}
        put(db, Content(body=json.dumps(body).encode()), name, started_at=f"2026-11-22T10:00:0{number}.000Z")
    assert find(db, "orchard") == [("a", "answer", None), ("a", "tool arguments", "bash")]
    assert {row["calls"] for row in search.find_texts(db, "orchard", 20)} == {3}


def test_what_is_no_text_is_not_searched(db: Database):
    picture = {"type": "image", "source": {"type": "base64", "data": "orchard/" * 60}}
    put(db, Content(body=json.dumps({"messages": [{"role": "user", "content": [picture]}]}).encode()))
    assert find(db, "orchard") == []
    assert find(db, "user") == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("read_file", True),
        ("READ file", True),
        ("file ranking", True),
        ("file zebra", False),
        ("ranking.py:12", True),
        ('"quoted', True),
        ("AND", False),
        ("NOT file", False),
        ("text:file", False),
        ("rank*", True),
        ("rank", False),
        ("anking*", False),
        ('"rank* zebra*', False),
        ("— file", True),
        ("Größe", True),
    ],
)
def test_all_words_must_be_there_and_none_is_an_operator(db: Database, words: str, found: bool):
    put(db, Content(answer_text='read_file of scores/ranking.py:12 gave a "quoted" Größe'))
    assert bool(find(db, words)) is found


@pytest.mark.parametrize("words", ["", "  ", "?!", '"'])
def test_no_word_at_all(db: Database, words: str):
    with pytest.raises(ValueError, match="no word"):
        find(db, words)


def test_a_text_that_many_calls_have_is_found_once_with_the_first(db: Database):
    for number, name in enumerate("bca"):
        put(db, Content(user_prompt="Tend the orchard."), name, started_at=f"2026-11-22T10:00:0{number}.000Z")
    find(db, "orchard")
    (row,) = search.find_texts(db, "orchard", 20)
    assert (row["request_id"], row["calls"]) == ("b", 3)


def test_the_limit_is_one_of_texts(db: Database):
    for number in range(5):
        put(db, Content(user_prompt=f"Tend orchard {number}."), str(number))
    find(db, "orchard")
    assert len(search.find_texts(db, "orchard", 3)) == 3


def test_there_is_no_index_before_the_first_search(db: Database):
    put(db, Content(user_prompt="Tend the orchard."))
    assert not any("search" in name for name in db.table_names())


def test_later_searches_find_what_came_since(db: Database):
    put(db, Content(user_prompt="Tend the orchard.", answer_text="No."))
    assert len(find(db, "orchard")) == 1
    put(db, Content(user_prompt="Tend the orchard again.", answer_text="No.", reasoning_text="An orchard?"), "b")
    found = find(db, "orchard", batch_size=2)
    assert found == [("a", "user prompt", None), ("b", "reasoning", None), ("b", "user prompt", None)]
    assert search.unindexed_texts(db) == []


def test_two_searches_at_once_index_a_text_once(db: Database):
    put(db, Content(user_prompt="Tend the orchard."))
    (batch,) = search.unindexed_texts(db)
    search.index_texts(db, batch)
    search.index_texts(db, batch)
    assert len(search.find_texts(db, "orchard", 20)) == 1
    assert db.execute("SELECT id FROM search_index_docsize").fetchall() == [(batch[0][1],)]
    db.execute("INSERT INTO search_index (search_index) VALUES ('integrity-check')")


@pytest.mark.parametrize(
    "remove", [lambda db: prune.remove_before(db, "2026-11-23"), lambda db: prune.remove_until(db, 0)]
)
def test_what_is_pruned_is_not_found(db: Database, remove: Any):
    put(db, Content(user_prompt="Tend the orchard."), started_at="2026-11-22T10:00:00.000Z")
    assert find(db, "orchard")
    remove(db)
    put(db, Content(user_prompt="Tend the garden."), "b")
    assert find(db, "orchard") == []
    assert find(db, "garden") == [("b", "user prompt", None)]


def test_texts_of_bodies_that_are_pruned_leave_no_trace(db: Database, path: Path):
    put(db, Content(body=uneven("orchard")), "a")
    put(db, Content(body=json.dumps(PLACES["messages: arguments"][1]).encode()), "b")
    assert len(find(db, "orchard")) == 2
    prune.remove_before(db, "2026-11-23")
    assert db["contents"].count == 0
    assert not db["search_held"].exists()


def test_the_index_is_no_reason_to_prune(db: Database):
    for number in range(20):
        body = {
            "messages": [{"role": "user", "content": [{"type": "text", "text": f"{number} {n}"} for n in range(99)]}]
        }
        put(db, Content(user_prompt=f"Tend orchard {number}.", body=json.dumps(body).encode()), str(number))
    pragmas = "pragma_page_count, pragma_freelist_count, pragma_page_size"
    used = f"SELECT (page_count - freelist_count) * page_size FROM {pragmas}"
    find(db, "orchard")
    (with_index,) = db.execute(used).fetchone()
    assert prune.remove_until(db, with_index) == 0
    (without,) = db.execute(used).fetchone()
    assert without < with_index * 0.6
    find(db, "orchard")
    assert prune.remove_until(db, without) == 0


def test_nothing_of_what_may_not_be_stored_is_in_the_index(db: Database, path: Path):
    content = Content("Tend the orchard.", "Tend the orchard.", "orchard", "orchard", [], [CALL])
    record, bare = limited(make_record(), content, "none")
    with transaction(db):
        replace_finished(db, record, bare)
    assert find(db, "orchard") == []
    assert not any(b"orchard" in file.read_bytes() for file in path.parent.iterdir())
