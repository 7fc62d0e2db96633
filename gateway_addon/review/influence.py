"""What led to what: hosts, packages, commands and data in a tool's arguments, traced to the earliest text of the
session that held them, and text in results that addresses the model as an instruction.

A finding says what was seen: that something stood in a result and was done later, never that it was done because of it.
Across sub-agents and compactions, as a session is told in one order. Time is linear in the session's distinct text.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway_addon.captures.known import Known
from gateway_addon.credentials import MIN_LENGTH
from gateway_addon.review import marks, reach
from gateway_addon.review.findings import Finding, Link, Place, fingerprint, short
from gateway_addon.review.instructions import Instruction, instructions_in
from gateway_addon.review.marks import Mark
from gateway_addon.review.timeline import Action, Session, Step, Timeline

MAX_INSTRUCTIONS = 200
"""Of a session, with which later calls are compared."""
MAX_DID = 5
"""Calls that a finding shows."""
MIN_PIECE = 6
"""Characters of each of two pieces of which something was put together."""
MAX_JOINED = 1_000
"""Characters of what is looked for in pieces."""
_AROUND = 80


class Source(NamedTuple):
    """A text that held something."""

    number: int
    """Of the step in its session."""
    origin: str
    place: Place
    brought_by: str
    """Of a result, what the tool was called with."""
    line: str
    """Around what was held."""

    @property
    def is_result(self) -> bool:
        return self.origin == "tool result"


class Deed(NamedTuple):
    """A tool call, and what of it is looked for."""

    number: int
    place: Place
    action: Action
    marks: tuple[Mark, ...]

    @property
    def text(self) -> str:
        return reach.command_of(self.action.arguments) or self.action.arguments


class Told(NamedTuple):
    """An instruction in a result."""

    instruction: Instruction
    source: Source


@dataclass(slots=True)
class Trace:
    """One session."""

    deeds: list[Deed] = field(default_factory=list)
    sources: dict[Mark, Source] = field(default_factory=dict)
    """The earliest text that held each mark."""
    joined: dict[Mark, tuple[Source, Source]] = field(default_factory=dict)
    """Of marks that no text held as a whole before they were used, the two results that each held a part."""
    told: list[Told] = field(default_factory=list)

    def source(self, deed: Deed, mark: Mark) -> Source | None:
        """The earliest text that held something of a call, if it is older than the call itself."""
        found = self.sources.get(mark)
        return found if found and found.number < deed.number else None


def trace(session: Session) -> Trace:
    """Go through a session: what was done, then what had been said of it before."""
    found = Trace()
    for number, step in enumerate(session.steps()):
        if step.action and not step.is_result and (named := marks.marks_of(step.action)):
            found.deeds.append(Deed(number, step.place, step.action, named))
    wanted = _Wanted({mark for deed in found.deeds for mark in deed.marks})
    reminders: Counter[str] = Counter()
    for number, step in enumerate(session.steps()):
        for view in marks.views(step.text) if wanted else ():
            for mark, at in wanted.found_in(view):
                if mark not in found.sources:
                    found.sources[mark] = _source(number, step, view, at)
        if step.is_result:
            for one in instructions_in(step.text):
                reminders[one.said] += one.is_reminder
                if len(found.told) < MAX_INSTRUCTIONS:
                    found.told.append(Told(one, _source(number, step, one.said, 0)))
    # what stands in tags of harnesses, and again and again, is a harness's
    found.told = [told for told in found.told if reminders[told.instruction.said] < 2]
    _join(session, found)
    return found


def _source(number: int, step: Step, text: str, at: int) -> Source:
    start = max(text.rfind("\n", 0, at) + 1, at - _AROUND)
    end = text.find("\n", at, at + 2 * _AROUND)
    line = text[start : end if end >= 0 else at + 2 * _AROUND].strip()
    return Source(number, step.origin, step.place, step.action.arguments if step.action else "", line)


class _Wanted:
    """Finds marks in texts, whatever their number."""

    def __init__(self, wanted: Iterable[Mark]) -> None:
        self._tokens: defaultdict[str, list[Mark]] = defaultdict(list)
        self._rows: dict[tuple[str, ...], Mark] = {}
        literals: dict[str, Mark] = {}
        for mark in wanted:
            if mark.kind == "data" and " " in mark.text:
                self._rows[tuple(mark.text.split(" "))] = mark
            elif mark.kind in ("host", "data") or (mark.kind == "package" and mark.text.replace("-", "").isalnum()):
                self._tokens[mark.text].append(mark)
            elif len(mark.text) >= MIN_LENGTH:
                literals.setdefault(mark.text, mark)
        # a URL may stand in a command: each kind is looked for by itself
        kinds = {mark.kind for mark in literals.values()}
        self._literals = [
            (Known({text: text for text, mark in literals.items() if mark.kind == kind}), literals)
            for kind in sorted(kinds)
        ]
        self._words = {word for row in self._rows for word in row}

    def __bool__(self) -> bool:
        return bool(self._tokens or self._rows or self._literals)

    def found_in(self, text: str) -> Iterator[tuple[Mark, int]]:
        """The marks in a text, and about where each is."""
        lower = text.lower()
        if self._tokens:
            for token in marks.tokens_in(lower) & self._tokens.keys():
                yield from ((mark, lower.find(token)) for mark in self._tokens[token])
        for known, literals in self._literals:
            yield from ((literals[found.secret], found.start) for found in known.finditer(lower))
        # rows are only made of texts with enough of their words
        if self._rows and len(marks.words_in(lower) & self._words) >= marks.WORDS // 2:
            for row in set(marks.shingles(lower)) & self._rows.keys():
                yield self._rows[row], max(0, lower.find(row[0]))


def _join(session: Session, found: Trace) -> None:
    """Find the results that each held a part of what no text held as a whole."""
    whole = {
        mark: deed.number
        for deed in reversed(found.deeds)
        for mark in deed.marks
        if mark.kind in ("url", "data")
        and " " not in mark.text
        and len(mark.text) <= MAX_JOINED
        # a call's own arguments hold it
        and ((source := found.sources.get(mark)) is None or source.number >= deed.number)
    }
    pieces = {
        piece
        for mark in whole
        for at in range(MIN_PIECE, len(mark.text) - MIN_PIECE + 1)
        for piece in (mark.text[:at], mark.text[at:])
    }
    if not pieces:
        return
    held: dict[str, Source] = {}
    for number, step in enumerate(session.steps()):
        if step.is_result:
            for view in marks.views(step.text):
                for piece in marks.runs_in(view) & pieces:
                    held.setdefault(piece, _source(number, step, view, max(0, view.lower().find(piece))))
    for mark, number in whole.items():
        for at in range(MIN_PIECE, len(mark.text) - MIN_PIECE + 1):
            first, second = held.get(mark.text[:at]), held.get(mark.text[at:])
            if first and second and first.number != second.number and max(first.number, second.number) < number:
                found.joined[mark] = first, second
                break


# -- findings ---------------------------------------------------------------------------------------------------------


def findings(timeline: Timeline, masked: Callable[[str], str]) -> Iterator[Finding]:
    """`masked` takes the secrets out of what is shown."""
    shown = _Shown(masked)
    for session in timeline.sessions:
        found = trace(session)
        for rule in (_hosts, _things, _data, _joined_findings, _told):
            yield from rule(session, found, shown)


class _Shown(NamedTuple):
    """How findings show texts."""

    masked: Callable[[str], str]

    def named(self, source: Source, step: str = "named") -> Link:
        said = f"{source.brought_by}: {source.line}" if source.brought_by else source.line
        return Link(step=step, place=source.place, what=short(self.masked(said)))

    def did(self, deed: Deed, step: str = "did") -> Link:
        return Link(
            step=step,
            place=deed.place,
            what=short(self.masked(deed.text)),
            hosts=dict.fromkeys(marks.contacted(deed.action), 1),
        )


def _first_results(found: Trace, *kinds: str) -> dict[Mark, tuple[Source, list[Deed]]]:
    """The marks of these kinds that stood first in a result, with the calls that used them thereafter."""
    used: dict[Mark, tuple[Source, list[Deed]]] = {}
    for deed in found.deeds:
        for mark in deed.marks:
            if mark.kind in kinds and (source := found.source(deed, mark)) and source.is_result:
                used.setdefault(mark, (source, []))[1].append(deed)
    return used


def _finding(session: Session, rule: str, severity: str, what: str, deeds: list[Deed], *links: Link) -> Finding:
    return Finding(
        rule=rule,
        severity=severity,
        what=what,
        # a session of its own is something new, though the words are the same
        fingerprint=fingerprint(rule, session.id or "", what),
        first_seen=deeds[0].place if deeds else links[0].place,
        count=len(deeds) or 1,
        hosts=dict(Counter(host for deed in deeds for host in marks.contacted(deed.action))),
        chain=links,
    )


def _hosts(session: Session, found: Trace, shown: _Shown) -> Iterator[Finding]:
    for mark, (source, deeds) in _first_results(found, "host", "address").items():
        what = f"{mark.text} stood first in a result of {source.place.tool or 'a tool'}, and was contacted"
        did = (shown.did(deed) for deed in deeds[:MAX_DID])
        yield _finding(session, f"{mark.kind}_from_result", "medium", what, deeds, shown.named(source), *did)


def _things(session: Session, found: Trace, shown: _Shown) -> Iterator[Finding]:
    seen: set[tuple[int, int]] = set()
    for mark, (source, deeds) in _first_results(found, "package", "command").items():
        # a command line, and the commands in it
        if mark.kind == "command" and (source.number, deeds[0].number) in seen:
            continue
        seen.add((source.number, deeds[0].number))
        is_grave = mark.kind == "package" or reach.reaches_out(deeds[0].action)
        said = short(shown.masked(mark.text), 80)
        did = "installed or run" if mark.kind == "package" else "run"
        what = f"{said} stood first in a result of {source.place.tool or 'a tool'}, and was {did}"
        links = (shown.named(source), *(shown.did(deed) for deed in deeds[:MAX_DID]))
        yield _finding(session, f"{mark.kind}_from_result", "medium" if is_grave else "low", what, deeds, *links)


def _data(session: Session, found: Trace, shown: _Shown) -> Iterator[Finding]:
    """Data of one result, sent to a host that another has named."""
    sent: dict[tuple[int, str], tuple[Source, Source, list[Deed]]] = {}
    for deed in found.deeds:
        named = {
            host: source
            for host in marks.contacted(deed.action)
            if (source := _host_source(found, deed, host)) and source.is_result
        }
        for mark in deed.marks if named else ():
            data = found.source(deed, mark) if mark.kind == "data" else None
            for host, source in named.items():
                if data and data.is_result and data.number != source.number and data.place != source.place:
                    entry = sent.setdefault((data.number, host), (data, source, []))
                    if deed not in entry[2]:
                        entry[2].append(deed)
    for (_, host), (data, source, deeds) in sent.items():
        what = (
            f"text of a result of {data.place.tool or 'a tool'} sent to {host}, "
            f"which a result of {source.place.tool or 'a tool'} had named"
        )
        links = (shown.named(data, "brought"), shown.named(source), *(shown.did(deed, "carried") for deed in deeds))
        yield _finding(session, "data_to_named_host", "high", what, deeds, *links[: 2 + MAX_DID])


def _host_source(found: Trace, deed: Deed, host: str) -> Source | None:
    """The text that named a host, as a whole or the last part of it."""
    if source := found.source(deed, Mark("host", host)):
        return source
    return next(
        (found.joined[mark][1] for mark in deed.marks if mark in found.joined and host in mark.text),
        None,
    )


def _joined_findings(session: Session, found: Trace, shown: _Shown) -> Iterator[Finding]:
    for mark, (first, second) in found.joined.items():
        deeds = [deed for deed in found.deeds if mark in deed.marks]
        what = f"{short(shown.masked(mark.text), 80)} was put together of two results, and used"
        did = (shown.did(deed) for deed in deeds[:MAX_DID])
        yield _finding(
            session, "joined_from_results", "medium", what, deeds, shown.named(first), shown.named(second), *did
        )


def _told(session: Session, found: Trace, shown: _Shown) -> Iterator[Finding]:
    for instruction, source in found.told:
        followed = [deed for deed in found.deeds if deed.number > source.number and _follows(found, deed, instruction)]
        severity = "high" if followed else "medium" if instruction.hidden else "low"
        hidden = f", {instruction.hidden}" if instruction.hidden else ""
        then = ", and what it names was used later" if followed else ""
        where = f"a result of {source.place.tool or 'a tool'}"
        what = f"{where} addresses the model{hidden}{then}: {short(shown.masked(instruction.said), 120)}"
        links = (shown.named(source, "told"), *(shown.did(deed) for deed in followed[:MAX_DID]))
        yield _finding(session, "instruction_in_result", severity, what, followed, *links)


def _follows(found: Trace, deed: Deed, instruction: Instruction) -> bool:
    """Whether a call has something that stands beside an instruction, and that nothing before the result held."""
    around = instruction.around.lower()
    return any(
        mark.text in around
        for mark in deed.marks
        if mark.kind != "data" and (source := found.source(deed, mark)) and source.is_result
    )
