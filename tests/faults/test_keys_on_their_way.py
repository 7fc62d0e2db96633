"""The gateway's key reaches the provider it is for, and nobody learns it on the way."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mitmproxy.io import FlowWriter

from tests.faults.test_echoes import CALL, CONFIG, KEY, SECRETS, SHOWN, said
from tests.faults.upstream import RawUpstream, exchange, http, post
from tests.mitmdump import Mitmdump, http_flows, rows, run_mitmdump


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream() as upstream:
        upstream.answer = lambda head: http("200 OK", said(f"{head.count(KEY.encode())} keys"))
        yield upstream


@pytest.fixture
def options(upstream: RawUpstream, tmp_path: Path) -> dict[str, object]:
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.replace("URL", upstream.url))
    return {
        "gateway_db": tmp_path / "gateway.db",
        "gateway_config": config,
        "connection_strategy": "lazy",
        "save_stream_file": tmp_path / "all.flow",
    }


def test_stickyauth_does_not_learn_it(upstream: RawUpstream, options: dict[str, object], confdir: Path):
    with Mitmdump(upstream.url, confdir=confdir, options=options | {"stickyauth": ".*"}, env=SECRETS) as proxy:
        exchange(proxy.url, post("/api/gateway/chat/completions", CALL, SHOWN))
        exchange(proxy.url, post("/somewhere", b""))
    assert [head.count(KEY.encode()) for head in upstream.heads] == [1, 0]


def test_what_stickyauth_knows_does_not_go_with_it(upstream: RawUpstream, options: dict[str, object], confdir: Path):
    with Mitmdump(upstream.url, confdir=confdir, options=options | {"stickyauth": ".*"}, env=SECRETS) as proxy:
        exchange(proxy.url, post("/somewhere", b"", "authorization: Bearer of-another-client"))
        exchange(proxy.url, post("/api/gateway/chat/completions", CALL, SHOWN))
    assert [head.count(b"of-another-client") for head in upstream.heads] == [1, 0]


def test_replays_of_one_flow_at_once_each_have_it_and_keep_it_nowhere(
    upstream: RawUpstream, options: dict[str, object], confdir: Path, tmp_path: Path
):
    with Mitmdump(upstream.url, confdir=confdir, options=options, env=SECRETS) as proxy:
        exchange(proxy.url, post("/api/gateway/chat/completions", CALL, SHOWN))
        assert proxy.stop() == 0
    (flow,) = http_flows(tmp_path / "all.flow")
    with (tmp_path / "many.flow").open("wb") as file:
        for _ in range(5):
            FlowWriter(file).add(flow)
    upstream.heads.clear()
    again = options | {"save_stream_file": tmp_path / "again.flow", "client_replay_concurrency": -1}
    done = run_mitmdump("-n", "-C", str(tmp_path / "many.flow"), confdir=confdir, options=again, env=SECRETS)
    assert done.returncode == 0, done.stdout
    assert [head.count(KEY.encode()) for head in upstream.heads] == [1] * 5
    assert len(http_flows(tmp_path / "again.flow")) == 5
    for saved in tmp_path.glob("*.flow"):
        assert KEY.encode() not in saved.read_bytes()
    said_in_rows = rows(tmp_path / "gateway.db", "SELECT answer_text FROM answers")
    assert {json.dumps(row) for row in said_in_rows} == {'{"answer_text": "1 keys"}'}
