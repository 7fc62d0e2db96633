"""A bundle: the redacted flows of some calls with the rows they must give, in a zip that anybody can check offline.

A zip from a stranger is data: it may hold these members and nothing else, of bounded size, and nothing in it is run.
"""

import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from platform import python_version
from tempfile import TemporaryDirectory
from typing import BinaryIO, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from gateway_addon import __version__
from gateway_addon.captures import flowfile
from gateway_addon.captures.flowfile import FlowFileError
from gateway_addon.store import queries
from gateway_addon.store.database import open_readonly

MANIFEST, CAPTURE, README = "bundle.json", "capture.flow", "README.txt"
LIMITS = {MANIFEST: 64_000_000, CAPTURE: 512_000_000, README: 100_000}
"""The members of a bundle, and the bytes each may have, unpacked."""

ALL = "all"
"""The reference that means every call of a file."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The others take more memory than their member's size says."""
_CHUNK = 1 << 16

_EXPLAINED = """\
{asked}: {calls} recorded by gateway-addon, a mitmproxy addon. Secrets were replaced by placeholders.

{capture}   the flows: mitmproxy -n -r {capture}
{manifest}    the rows that they must give, and the versions that gave them

To check, offline, whether they still do:

    gateway-addon bundle --check {name}
"""

type Value = int | float | str | None
type Tables = dict[str, list[dict[str, Value]]]
type StoreRows = Callable[[Path, Path], object]
"""Stores the rows of a flow file in a new database, as `proxy.offline.store_rows` does. Raises `FlowFileError`."""


class Manifest(BaseModel):
    """What `bundle.json` holds."""

    model_config = ConfigDict(strict=True)

    format: Literal[1] = 1
    made_with: dict[str, str]
    """Versions, by name."""
    agents: list[str]
    """Who made the calls, each with its version as far as they say."""
    rows: Tables


class Difference(NamedTuple):
    """A value of a row that is not what it was."""

    call: str
    column: str
    """`TABLE.COLUMN`; only the table's name where a whole row is missing or too many."""
    expected: Value
    found: Value


def write(
    source: Path,
    reference: str,
    target: Path,
    store_rows: StoreRows,
    *,
    force: bool = False,
    progress: flowfile.Progress = lambda size: None,
) -> tuple[Manifest, list[Difference]]:
    """Bundle a call or session of a flow file, or `ALL` calls.

    Returns what was written, and what redaction changed in `requests`.

    Raises `FlowFileError` for a file that cannot be read to its end or written, LookupError for a reference that means
    none, or several. `progress` is told of the file's size twice.
    """
    with flowfile.new_file(target, source, force=force) as file, TemporaryDirectory() as name:
        folder = Path(name)
        store_rows(source, folder / "original.db")
        with closing(open_readonly(folder / "original.db")) as db:
            every = queries.all_rows(db)["requests"]
            wanted = [row["id"] for row in every] if reference == ALL else queries.calls_meant(db, reference)
        flows = {call.partition("~")[0].partition("/")[0] for call in wanted}
        with (folder / CAPTURE).open("wb") as capture:
            flowfile.write_redacted(capture, source, progress=progress, wanted=lambda flow: flow.id in flows)
        rows = _rows(folder / CAPTURE, folder / "redacted.db", store_rows)
        manifest = Manifest(made_with=_versions(), agents=_agents(rows), rows=rows)
        _pack(file, folder / CAPTURE, manifest, reference, target.name)
    changed = [one for one in differences({"requests": every}, {"requests": rows["requests"]}) if "." in one.column]
    return manifest, changed


def check(path: Path, store_rows: StoreRows) -> tuple[Manifest, list[Difference]]:
    """Read a bundle's flows and compare the rows they give with those they must give.

    Raises `FlowFileError` for what is no bundle.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        _unpack(path, folder)
        try:
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        except (ValidationError, RecursionError):
            raise FlowFileError(f"{path}: its {MANIFEST} is damaged, or of another version") from None
        try:
            found = _rows(folder / CAPTURE, folder / "found.db", store_rows)
        except FlowFileError as error:
            raise FlowFileError(str(error).replace(str(folder / CAPTURE), f"{path}: {CAPTURE}")) from None
        return manifest, differences(manifest.rows, found)


def differences(expected: Tables, found: Tables) -> list[Difference]:
    """Where rows differ, call by call, in the columns that both have. Another version may know more, or less."""
    return list(_differences(expected, found))


def _differences(expected: Tables, found: Tables) -> Iterator[Difference]:
    for table in found:
        before, after = _by_call(expected.get(table, [])), _by_call(found[table])
        for call in dict.fromkeys([*before, *after]):
            for was, now in zip_longest(before[call], after[call]):
                if was is None or now is None:
                    yield Difference(call, table, *("no row" if row is None else "a row" for row in (was, now)))
                    continue
                for column in was.keys() & now.keys():
                    if was[column] != now[column]:
                        yield Difference(call, f"{table}.{column}", was[column], now[column])


def _by_call(rows: Sequence[dict[str, Value]]) -> defaultdict[str, list[dict[str, Value]]]:
    calls = defaultdict(list)
    for row in rows:
        # a result whose call was never seen belongs to the call that carried it
        call = row.get("id") or row.get("request_id") or row.get("result_request_id")
        calls[str(call)].append(row)
    return calls


def _rows(flows: Path, db: Path, store_rows: StoreRows) -> Tables:
    store_rows(flows, db)
    return _tables(db)


def _tables(path: Path) -> Tables:
    with closing(open_readonly(path)) as db:
        return queries.all_rows(db)


def _versions() -> dict[str, str]:
    others = {package: version(package) for package in ("mitmproxy", "genai-prices")}
    return {"gateway-addon": __version__} | others | {"python": python_version()}


def _agents(rows: Tables) -> list[str]:
    named = [f"{row['client']} {row['client_version'] or ''}".strip() for row in rows["requests"] if row["client"]]
    return list(dict.fromkeys(named))


# -- the zip -------------------------------------------------------------------------------------------------------


def _pack(file: BinaryIO, capture: Path, manifest: Manifest, asked: str, name: str) -> None:
    calls = len(manifest.rows["requests"])
    explained = _EXPLAINED.format(
        asked=asked,
        calls=f"{calls} call{'s' if calls != 1 else ''}",
        capture=CAPTURE,
        manifest=MANIFEST,
        name=name,
    )
    members = {
        README: explained.encode(),
        MANIFEST: json.dumps(manifest.model_dump(), indent=1).encode(),
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            _check_size(name, member, len(data))
            archive.writestr(_info(member), data)
        _check_size(name, CAPTURE, capture.stat().st_size)
        with capture.open("rb") as flows, archive.open(_info(CAPTURE), "w") as packed:
            while data := flows.read(_CHUNK):
                packed.write(data)


def _info(member: str) -> zipfile.ZipInfo:
    # without a time, which would only tell when it was made
    info = zipfile.ZipInfo(member)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


def _unpack(path: Path, folder: Path) -> None:
    """Put a bundle's members into a folder, under their own names and no others."""
    if path.exists() and not path.is_file():
        raise FlowFileError(f"{path}: is no regular file")
    try:
        if path.stat().st_size > sum(LIMITS.values()):
            raise FlowFileError(f"{path}: is too large for a bundle")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sorted(member.filename for member in members) != sorted(LIMITS):
                raise FlowFileError(f"{path}: is no bundle: it holds other files than {', '.join(LIMITS)}")
            for member in members:
                _check_size(str(path), member.filename, member.file_size)
                if member.compress_type not in _METHODS or member.is_dir() or member.flag_bits & 1:
                    raise FlowFileError(f"{path}: is no bundle: {member.filename} is packed in another way")
                with archive.open(member) as packed, (folder / member.filename).open("wb") as file:
                    _copy(packed.read, file, path, member.filename)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise FlowFileError(f"{path}: is no zip file, or damaged") from error
    except OSError as error:
        raise FlowFileError(f"{path}: {error.strerror}") from error


def _copy(read: Callable[[int], bytes], file: BinaryIO, path: Path, member: str) -> None:
    """Whatever the zip says of a member's size, no more is unpacked than is allowed."""
    size = 0
    while data := read(_CHUNK):
        size += len(data)
        _check_size(str(path), member, size)
        file.write(data)


def _check_size(name: str, member: str, size: int) -> None:
    if size > LIMITS[member]:
        raise FlowFileError(f"{name}: {member} is too large for a bundle: more than {LIMITS[member] // 1_000_000} MB")
