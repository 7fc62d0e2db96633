"""The demo recording: what it must hold, and what it must not tell about the machine it was made on."""

from pathlib import Path

import pytest
from mitmproxy.http import HTTPFlow

from tests.make_demo import KEY, record
from tests.mitmdump import ADDON, read_flows

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo.flow"
    record(ADDON, path)
    return path


def test_the_session_is_an_agents_work_with_an_error_and_a_stopped_answer(demo: Path):
    flows = [flow for flow in read_flows(demo) if isinstance(flow, HTTPFlow)]
    assert [flow.request.path for flow in flows] == [
        *["/v1/messages"] * 5,
        *["/api/v1/chat/completions"] * 5,
        "/v1/responses",
        "/v1/messages",
        "/api/v1/chat/completions",
    ]
    *_, failed, stopped = flows
    assert b"event: error" in (failed.response.raw_content or b"")  # type: ignore[union-attr]
    assert [flow for flow in flows if flow.error] == [stopped]


def test_the_file_tells_nothing_of_the_machine(demo: Path):
    recorded = demo.read_bytes()
    assert KEY.encode() in recorded
    for folder in (Path.home(), ADDON.parent, demo.parent):
        assert str(folder).encode() not in recorded
