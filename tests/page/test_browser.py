"""The page, and mitmweb, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_addon.api.base import ToolCall
from gateway_addon.content import Content
from gateway_addon.proxy.offline import store_rows
from tests.browser import CHROMIUM, Browser, browser
from tests.commands import write
from tests.make_demo import DEMO
from tests.mitmweb import TOKEN, Mitmweb
from tests.page.serving import Page
from tests.page.test_serve import QUERIES, TABLES
from tests.store.calls import make_record

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (.ci/run installs it)"),
]

HOSTILE = "<img src=x onerror=\"window.hacked = 1; alert('hacked')\"></script><script>window.hacked = 1</script>"
CHARTS = "document.querySelectorAll('.vega-embed svg.marks').length == 6"
ELSEWHERE = "https://elsewhere.example/picture.png"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    (profile := tmp_path / "profile").mkdir()
    with browser(profile) as tab:
        yield tab


def stays_here(tab: Browser, url: str) -> None:
    """Nothing was asked of anybody but the page itself."""
    assert tab.requests
    assert [
        asked for asked in tab.requests if not asked.startswith((url, "data:", "blob:", url.replace("http", "ws")))
    ] == []


def test_the_dashboard_draws_its_charts(tab: Browser, tmp_path: Path):
    store_rows(DEMO, tmp_path / "gateway.db")
    with Page(tmp_path / "gateway.db") as page:
        tab.open(f"{page.url}/")
        tab.value("[...document.querySelectorAll('a')].find(link => link.innerText == 'Dashboard').click()")
        tab.until(CHARTS)
        text = tab.text()
        assert "$0.0156" in text
        assert "69 %" in text
        drawn = tab.value(
            "[...document.querySelectorAll('.vega-embed svg.marks')].map(chart => chart.innerHTML.length)"
        )
        assert all(size > 1000 for size in drawn), drawn
        tab.open(f"{page.url}/-/dashboards/usage?per=hour&client=openai-sdk")
        tab.until(CHARTS)
        assert "$0.0080" in tab.text()
        stays_here(tab, page.url)


def test_a_search_finds_a_planted_prompt(tab: Browser, tmp_path: Path):
    db = tmp_path / "gateway.db"
    planted = (make_record(id="planted"), Content(user_prompt="Where did the xylophone go?"))
    write(db, planted, (make_record(id="other"), Content(user_prompt="Nothing.")))
    with Page(db) as page:
        tab.open(f"{page.url}/gateway/search")
        tab.value(
            "document.querySelector('input[name=words]').value = 'xylophone'; document.querySelector('form').submit()"
        )
        tab.until("document.body.innerText.includes('«xylophone»')")
        tab.value("document.querySelector('td.col-request_id a').click()")
        tab.until("document.body.innerText.includes('Where did the xylophone go?')")
        assert "Nothing." not in tab.text()


def test_what_strangers_wrote_is_shown_and_nothing_else(tab: Browser, tmp_path: Path):
    db = tmp_path / "gateway.db"
    record = make_record(
        request_model=HOSTILE, upstream_model=HOSTILE, session_id=HOSTILE, client=HOSTILE, error_type=HOSTILE,
        outcome="stream_error", error_message=f"{HOSTILE} {ELSEWHERE}", cost_microdollars=5, input_tokens=9,
        cache_read_tokens=3, output_tokens=2, duration_ms=9.0, time_to_first_token_ms=3.0,
    )  # fmt: skip
    said = f"{HOSTILE} ![picture]({ELSEWHERE}) " * 20
    call = ToolCall("1", HOSTILE, "tool_use", "client", HOSTILE)
    write(db, (record, Content(said, said, HOSTILE, ELSEWHERE, [HOSTILE], [call])))
    with Page(db) as page:
        for name in QUERIES:
            tab.open(f"{page.url}/gateway/{name}?words=onerror")
        for name, table in TABLES.items():
            if not table.get("hidden"):
                tab.open(f"{page.url}/gateway/{name}")
        tab.open(f"{page.url}/gateway/conversation?id=")
        assert "onerror" in tab.text()
        tab.value("document.querySelectorAll('details').forEach(folded => folded.open = true)")
        tab.open(f"{page.url}/-/dashboards/usage?per=day")
        tab.until(CHARTS)
        # what is under the mouse is told in a box of its own
        place = tab.value(
            "(() => { const box = document.querySelector('.vega-embed').getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2] })()"
        )
        for step in range(20):
            tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0] + step, y=place[1] + step)
        assert tab.value("window.hacked") is None
        assert tab.dialogs == []
        stays_here(tab, page.url)


def test_mitmweb_shows_the_conversation(tab: Browser, confdir: Path, tmp_path: Path):
    options = {"gateway_db": tmp_path / "gateway.db"}
    with Mitmweb(DEMO, confdir=confdir, options=options) as web:
        flow = web.get("/flows")[2]
        tab.open(f"{web.url}/?token={TOKEN}#/flows/{flow['id']}/response")
        tab.until("document.body.innerText.includes('▸ edit_file')")
        assert "cost $0.0027" in tab.text()
        stays_here(tab, web.url)
