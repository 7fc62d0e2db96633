"""Take the README's pictures anew: `python -m tests.make_screenshots` (half a minute; needs `chromium`).

mitmweb shows the demo; the dashboard has the calls of `flows/` over and over, half a minute apart (`make_large`).
"""

import tempfile
from pathlib import Path

from tests.browser import browser
from tests.make_demo import DEMO
from tests.make_large import make
from tests.mitmweb import TOKEN, Mitmweb
from tests.page.serving import Page

PICTURES = DEMO.parent / "pictures"
CALLS = 3_000
COLUMNS = ("path", "status", "comment")


def mitmweb(folder: Path) -> None:
    """The list of flows, and an answer that edits a file."""
    options = {"gateway_db": folder / "demo.db"}
    arguments = [f"--set=web_columns={name}" for name in COLUMNS]
    with (
        Mitmweb(DEMO, confdir=folder, options=options, arguments=arguments) as web,
        browser(folder / "mitmweb", 1420, 680, 0.8) as tab,
    ):
        flow = next(flow for flow in web.get("/flows") if "edit_file" in flow["comment"])
        tab.open(f"{web.url}/?token={TOKEN}#/flows/{flow['id']}/response")
        tab.until("document.body.innerText.includes('▸ edit_file')")
        tab.until("document.querySelectorAll('.flow-table tbody tr').length > 10")
        tab.picture(PICTURES / "mitmweb.png")


def dashboard(folder: Path) -> None:
    make(folder / "many.db", CALLS)
    with Page(folder / "many.db") as page, browser(folder / "page", 1080, 880, 0.8) as tab:
        tab.open(f"{page.url}/-/dashboards/usage?per=hour")
        tab.until("document.querySelectorAll('svg.marks').length == 6 && document.body.innerText.includes('$')")
        tab.picture(PICTURES / "dashboard.png")


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        mitmweb(Path(name))
        dashboard(Path(name))


if __name__ == "__main__":
    main()
