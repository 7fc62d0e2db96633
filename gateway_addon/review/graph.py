"""One session drawn as a page that stands alone: what was said and done in its order, and what findings say led from
one to another. There is no script in it and nothing to load, and every text in it is text. No I/O."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import NamedTuple

from gateway_addon.pages import POLICY
from gateway_addon.review import marks, reach
from gateway_addon.review.findings import Finding, Link, Place, short
from gateway_addon.review.timeline import Session, Step
from gateway_addon.wire.text import plain

MAX_ROWS = 120
"""Steps up to which all of a session are drawn."""
NEAR = 2
"""Else so many before and after each that a finding names."""

_ROW, _TOP, _LEFT, _INDENT, _WIDTH, _HOSTS = 26, 30, 210, 24, 1240, 960
_KEPT = 2_000
"""Characters of a step that are looked at for secrets to mask, and held."""
_SHOWN = 84
"""Characters of a row."""
_FROM, _TO = ("brought", "named", "told"), ("carried", "did")

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem; }
svg { width: 100%; min-width: 60rem; height: auto; font: 13px ui-monospace, monospace; }
text { fill: currentColor; } line { stroke: currentColor; opacity: .2; }
path { fill: none; stroke-width: 2; opacity: .75; }
.high { stroke: #d22; } .medium { stroke: #d80; } .low { stroke: #07a; } .info { stroke: #888; }
h2 .high { color: #d22; } .place { opacity: .7; }
.user { fill: #2e8b57; } .model { fill: #4169e1; } .system { fill: #a0409a; } .tool { fill: #b8860b; }
li { overflow-wrap: anywhere; } code { font: 13px ui-monospace, monospace; }
"""

_CLASSES = {"user prompt": "user", "system prompt": "system", "tool result": "tool"}


class _Row(NamedTuple):
    number: int
    step: Step
    hosts: tuple[str, ...]

    @property
    def y(self) -> int:
        return _TOP + self.number * _ROW


def page(session: Session, findings: Sequence[Finding], masked: Callable[[str], str]) -> Iterator[str]:
    """Pieces of the page. `findings`: of a whole review; `masked` takes the secrets out of what is shown."""
    calls = {call["id"] for call in session.calls}
    own = [found for found in findings if found.severity != "info" and _is_of(found, calls)]
    rows, left_out = _rows(session, {link.place for found in own for link in found.chain})
    title = f"Session {session.id or 'without an id'}"
    yield (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{_text(title)}</h1>\n"
        f"<p>{len(session.calls)} calls, {len(own)} findings. A line leads from what held something to what was done "
        f"with it later: that is what was seen, not why it was done.</p>\n"
    )
    if left_out:
        yield f"<p>{left_out} more steps are not drawn.</p>\n"
    yield f'<svg viewBox="0 0 {_WIDTH} {_TOP * 2 + len(rows) * _ROW}" role="img" aria-label="{_text(title)}">\n'
    yield from _drawn(rows, own, masked)
    yield "</svg>\n"
    for found in own:
        yield from _told(found)
    yield "</body>\n</html>\n"


def _is_of(found: Finding, calls: set[str]) -> bool:
    return found.first_seen.request_id in calls or any(link.place.request_id in calls for link in found.chain)


def _rows(session: Session, named: set[Place]) -> tuple[list[_Row], int]:
    """The steps that are drawn, and how many are not: of a long session those that findings name, with their
    neighbours, and prompts."""
    places = [(step.place, step.origin) for step in _drawable(session)]
    drawn = set(range(len(places)))
    if len(places) > MAX_ROWS:
        near = {n + by for n, (place, _) in enumerate(places) if place in named for by in range(-NEAR, NEAR + 1)}
        prompts = [n for n, (_, origin) in enumerate(places) if origin == "user prompt"][:MAX_ROWS]
        drawn &= near | {*prompts, len(places) - 1}
    rows: list[_Row] = []
    for number, step in enumerate(_drawable(session)):
        if number in drawn:
            hosts = marks.contacted(step.action) if step.action and not step.is_result else ()
            rows.append(_Row(len(rows), replace(step, text=step.text[:_KEPT]), hosts))
    return rows, len(places) - len(rows)


def _drawable(session: Session) -> Iterator[Step]:
    return (step for step in session.steps() if step.origin != "reasoning")


def _drawn(rows: Sequence[_Row], findings: Iterable[Finding], masked: Callable[[str], str]) -> Iterator[str]:
    agents: dict[str | None, int] = {None: 0}
    hosts: dict[str, int] = {}
    for row in rows:
        step, y = row.step, row.y
        x = _LEFT + _INDENT * agents.setdefault(step.place.agent, len(agents))
        said = step.text
        if step.action and not step.is_result:
            said = reach.command_of(step.action.arguments) or step.action.arguments
        who = " ".join(filter(None, (_turn(step.place), step.place.place, step.place.tool)))
        shown = plain(masked(said))
        yield (
            f'<text x="{x}" y="{y}"><title>{_text(short(shown, 600))}</title>'
            f'<tspan class="{_CLASSES.get(step.origin, "model")}">{_text(who)}</tspan> '
            f"{_text(short(shown, max(16, _SHOWN - len(who))))}</text>\n"
        )
        for host in row.hosts:
            # named where it was contacted first
            first = hosts.setdefault(host, y)
            if first == y:
                yield f'<text x="{_HOSTS}" y="{y}">→ {_text(short(host, 36))}</text>\n'
            yield f'<line x1="{_HOSTS - 60}" y1="{y - 4}" x2="{_HOSTS - 8}" y2="{first - 4}"/>\n'
    places = {row.step.place: row for row in reversed(rows)}
    for found in findings:
        for start, end in _edges(found.chain):
            if (one := places.get(start.place)) and (other := places.get(end.place)) and one is not other:
                bow = min(_LEFT - 20, 30 + 6 * abs(other.number - one.number))
                y1, y2 = one.y - 4, other.y - 4
                x = _LEFT - 6
                yield (
                    f'<path class="{found.severity}" d="M{x} {y1} C{x - bow} {y1} {x - bow} {y2} {x} {y2}">'
                    f"<title>{_text(found.what)}</title></path>\n"
                )


def _edges(chain: Sequence[Link]) -> Iterator[tuple[Link, Link]]:
    for start in chain:
        if start.step in _FROM:
            yield from ((start, end) for end in chain if end.step in _TO)


def _told(found: Finding) -> Iterator[str]:
    opens = (f" ({found.name})" if found.name else "") + (f", opens {found.opens}" if found.opens else "")
    yield f'<h2><span class="{found.severity}">{found.severity}</span>: {_text(found.rule)}</h2>\n'
    yield f"<p>{_text(found.what)}{_text(opens)}</p>\n<ul>\n"
    for link in found.chain:
        hosts = ", ".join(f"{host} ×{times}" for host, times in link.hosts.items())
        where = " ".join(filter(None, (_turn(link.place), link.place.place, link.place.tool, link.place.agent)))
        times = f"{link.count} calls " if link.step == "sent" else ""
        yield (
            f'<li>{_text(link.step)} <span class="place">{_text(where)} {_text(times)}{_text(hosts)}</span> '
            f"<code>{_text(link.what)}</code></li>\n"
        )
    yield "</ul>\n"


def _turn(place: Place) -> str:
    return f"turn {place.turn}" if place.turn is not None else ""


def _text(text: str) -> str:
    return escape(plain(text))
