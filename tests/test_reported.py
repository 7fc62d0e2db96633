"""What users of such tools reported, a kind of fault each: the row is true live and through the gateway.

That a file gives the same rows is in captures/test_rows_again.py, for every scenario.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.client import PATHS, Call, request_body
from tests.gateways import CLIENT, KEYS, TOKENS
from tests.mitmdump import Mitmdump, rows
from tests.provider import Provider

Facts = dict[str, Any]

READ = ("read_file", '{"path": "pages/pager.py", "lines": [1, 80]}')
SEARCH = ("search", '{"pattern": "page_count", "glob": "**/*.py"}')
COST: Facts = {"outcome": "complete", "cost_microdollars": 420, "cost_source": "reported", "input_tokens": 120}
COUNTED: Facts = {"outcome": "complete", "input_tokens": 120, "output_tokens": 24, "usage_is_lower_bound": 0}
LOST: Facts = {
    "outcome": "stream_error",
    "http_status": 200,
    "error_message": "Too many calls at the moment, try again later.",
}
LIMITED: Facts = {"outcome": "http_error", "error_status": 429, "error_message": "Over the limit of calls per minute."}

EXPECTED: dict[tuple[str, str], Facts] = {
    **{(kind, "cost-apart"): COST for kind in PATHS},
    ("chat_completions", "usage-in-choice"): COUNTED,
    ("chat_completions", "one-index"): {"outcome": "complete", "calls": [READ, SEARCH]},
    ("responses", "response-done"): COUNTED | {"finish_reason": "completed"},
    ("responses", "run-by-the-server"): {
        "outcome": "complete",
        "calls": [("code_interpreter", "1/0")],
        "results": [("code_interpreter", "ZeroDivisionError", 1)],
    },
    ("messages", "run-by-the-server"): {
        "outcome": "complete",
        "calls": [("web_fetch", '{"url":"https://toy.example"}')],
        "results": [("web_fetch", "https://toy.example\nthe page", 0)],
    },
    **{(kind, "error-in-a-list"): LOST for kind in PATHS},
    **{(kind, "list-http-429"): LIMITED for kind in PATHS},
}
"""By kind and scenario, what is in the row and its tables; streamed or not."""


def facts(db: Path, wanted: Facts, kind: str, model: str) -> list[Facts]:
    """What the database says of the two calls, streamed and not, under the names that are wanted."""
    found = []
    for row in rows(db, f"SELECT * FROM requests WHERE api_kind = '{kind}' AND request_model = '{model}'"):
        of = f"WHERE request_id = '{row['id']}'"
        calls = rows(db, f"SELECT name, arguments FROM tool_calls {of} ORDER BY position")
        results = rows(db, f"SELECT name, result, is_error FROM tool_results {of}")
        tables = {
            name: [tuple(each.values()) for each in table] for name, table in (("calls", calls), ("results", results))
        }
        found.append({name: (row | tables)[name] for name in wanted})
    return found


@pytest.fixture(scope="module")
def gateway(session_provider: Provider, confdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of the same calls to models of the gateway's own, and what the client got."""
    folder = tmp_path_factory.mktemp("reported")
    names = sorted({scenario for _, scenario in EXPECTED})
    models = "".join(f'models."acme/{name}" = {{ model = "fake/{name}", free = true }}\n' for name in names)
    kinds = json.dumps(list(PATHS))
    (folder / "gateway.toml").write_text(
        f'default_provider = "toy"\n{models}providers.toy = {{ api_url = "{session_provider.url}/v1",'
        f' api_kinds = {kinds}, dialect = "openrouter", api_key_env = "TOY_KEY" }}\n'
    )
    options = {"gateway_db": folder / "gateway.db", "gateway_config": folder / "gateway.toml"}
    received = b""
    with Mitmdump(session_provider.url, confdir=confdir, options=options, env=KEYS | TOKENS) as proxy:
        for kind, scenario in EXPECTED:
            for stream in (True, False):
                body = request_body(kind, f"Acme/{scenario}", stream=stream)
                received += Call(proxy.url, f"/api/gateway{PATHS[kind]}", body, {"x-api-key": CLIENT}).read()
        assert proxy.stop() == 0
        assert "failed" not in proxy.stdout
    (folder / "received").write_bytes(received)
    return folder


@pytest.mark.parametrize(("kind", "scenario"), EXPECTED)
def test_live(kind: str, scenario: str, recorded: Path):
    wanted = EXPECTED[kind, scenario]
    assert facts(recorded / "gateway.db", wanted, kind, f"fake/{scenario}") == [wanted] * 2


@pytest.mark.parametrize(("kind", "scenario"), EXPECTED)
def test_through_the_gateway(kind: str, scenario: str, gateway: Path):
    wanted = EXPECTED[kind, scenario]
    assert facts(gateway / "gateway.db", wanted, kind, f"Acme/{scenario}") == [wanted] * 2


def test_a_free_models_client_sees_no_cost_and_no_other_name(gateway: Path):
    received = (gateway / "received").read_bytes()
    assert b"Acme/cost-apart" in received
    assert b'cost"' not in received
    assert b"inference-cost" not in received
    assert b"fake/" not in received
