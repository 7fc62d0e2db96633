"""The catalogue `flows/`: each file gives the rows that lie beside it, as committed and when recorded anew."""

import json
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest

from tests.make_flows import CONFIG, FINDINGS, FLOWS, PROVIDER_KEY, calls_of, expected, readme, record
from tests.mitmdump import ADDON, http_flows, rows, run_on_file

Rows = list[dict[str, Any]]

VIEWS = {
    "requests": "SELECT *, id AS request_id FROM requests",
    "prompts": "SELECT * FROM prompts",
    "tool_calls": "SELECT * FROM tool_calls ORDER BY position",
    "tool_results": "SELECT * FROM tool_results",
}
JSON_COLUMNS = ("cost_flags", "rewrites", "warnings")

FILES = list(FINDINGS)


class Catalogue:
    """A folder with all files, and what the addon made of them."""

    def __init__(self, folder: Path, work: Path, confdir: Path) -> None:
        self.folder = folder
        together = work / "together.flow"
        # flow files can be joined like this, and one mitmdump starts faster than forty
        together.write_bytes(b"".join(self.file(name).read_bytes() for name in FINDINGS))
        result = run_on_file(together, work / "gateway.db", "--flow-detail", "0", confdir=confdir)
        assert result.returncode == 0, result.stdout
        self._views = {view: rows(work / "gateway.db", sql) for view, sql in VIEWS.items()}

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.flow"

    def rows(self, name: str, view: str) -> Rows:
        """The rows that a file gave, in the order of its flows."""
        found = self._views[view]
        return [
            row
            for flow in http_flows(self.file(name))
            for row in found
            if (row["request_id"] or "").partition("/")[0] == flow.id
        ]


@pytest.fixture(scope="module", params=["as committed", "recorded anew"])
def catalogue(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, confdir: Path) -> Catalogue:
    work = tmp_path_factory.mktemp("flows")
    if request.param == "as committed":
        return Catalogue(FLOWS, work, confdir)
    record(work)
    return Catalogue(work, work, confdir)


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_the_rows_beside_it(catalogue: Catalogue, name: str):
    wanted = expected(name)
    del wanted["finding"]
    for view in wanted:
        assert _only(wanted[view], catalogue.rows(name, view)) == wanted[view], view


def _only(wanted: Rows, found: Rows) -> Rows:
    """The rows found with the columns that are wanted; a row too many with all."""
    columns = [list(row) for row in wanted] + [None] * (len(found) - len(wanted))
    return [
        {name: _plain(name, row[name]) for name in names or row} for names, row in zip(columns, found, strict=False)
    ]


def _plain(name: str, value: Any) -> Any:
    return json.loads(value) if name in JSON_COLUMNS else value


def test_every_call_has_one_row(catalogue: Catalogue):
    assert {name: len(catalogue.rows(name, "requests")) for name in FINDINGS} == {
        name: sum(map(calls_of, asks)) for name, asks in FINDINGS.items()
    }


def test_files_are_small_and_tell_nothing_of_the_machine(catalogue: Catalogue):
    for name in FINDINGS:
        recorded = catalogue.file(name).read_bytes()
        assert len(recorded) < 40_000, name
        for told in (PROVIDER_KEY, f"{Path.home()}/", str(ADDON.parent), f"{gettempdir()}/"):
            assert told.encode() not in recorded, (name, told)


def test_the_gateways_key_has_left_its_placeholder(catalogue: Catalogue):
    (flow,) = http_flows(catalogue.file("provider-key-in-no-file"))
    assert flow.request.headers["authorization"] == "{gateway:openrouter}"
    flow.revert()
    assert flow.request.headers["authorization"] == "Bearer any"


def test_each_finding_is_three_things_and_nothing_else_lies_about():
    beside = {f"{name}.{ending}" for name in FINDINGS for ending in ("flow", "json")}
    others = {"README.md", CONFIG.name, "demo.flow"}
    assert {path.name for path in FLOWS.iterdir() if path.is_file()} == beside | others


def test_the_readme_shows_what_is_expected():
    assert (FLOWS / "README.md").read_text(encoding="utf-8") == readme()
