"""What can be asked for in the command lines of mitmweb and mitmproxy's console: `gateway.…`.

mitmweb takes letters and dots only in a command's name. The docstrings are what the user is shown as help.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mitmproxy import command, ctx, exceptions, flow, http, types
from mitmproxy.addonmanager import Loader
from mitmproxy.hooks import UpdateHook
from mitmproxy.websocket import WebSocketData

from gateway_addon import glance
from gateway_addon.api import turns as asks
from gateway_addon.captures import flowfile, notes
from gateway_addon.conversation import Turn
from gateway_addon.pages import FORMS, Chapter
from gateway_addon.record import Record
from gateway_addon.sinks.console import Console
from gateway_addon.transcript import Part, transcript
from gateway_addon.wire import frames, sse
from gateway_addon.wire.text import printable

NO_PATH = types.Path()


def add(loader: Loader, console: Console) -> None:
    """Offer the commands. `console` knows the totals."""

    def totals() -> str:
        """Calls, tokens and cost since the proxy began, or of all files that were loaded."""
        return console.so_far()

    commands: dict[str, Callable[..., object]] = {
        "gateway.export": command.argument("form", type=types.Choice("gateway.export.forms"))(export),
        "gateway.export.forms": forms,
        "gateway.redact": redact,
        "gateway.show": show,
        "gateway.totals": totals,
    }
    for name, function in commands.items():
        loader.add_command(name, function)


def show(flow: flow.Flow) -> str:
    """The conversation of a model call, uncut: what its request says, and the answer."""
    parts = transcript(_turns(flow), full=True)
    return printable("\n".join(f"\n── {part.text}" if part.style == "heading" else part.text for part in parts)).strip()


def forms() -> Sequence[str]:
    """The kinds of file that gateway.export writes."""
    return list(FORMS)


def export(form: str, flows: Sequence[flow.Flow], path: types.Path) -> None:
    """Write the conversations of model calls into a new file: Markdown (md), or HTML without scripts (html). It holds
    prompts and answers as they were."""
    calls = [one for one in flows if isinstance(one, http.HTTPFlow) and notes.kind_in(one)]
    if not calls:
        raise exceptions.CommandError("no model call that has ended is among these flows")
    pages = "".join(FORMS[form]("model calls", _chapters(calls)))
    try:
        # for the eyes of its owner only
        with open(path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(pages)
    except OSError as error:
        raise exceptions.CommandError(f"{path}: {error.strerror}") from error


def redact(flows: Sequence[flow.Flow], rules: types.Path = NO_PATH) -> None:
    """Replace the secrets in flows by placeholders, for good. `rules` is the path of a TOML file that adds some."""
    if any(one.live for one in flows):
        raise exceptions.CommandError("a flow that is still under way cannot be redacted")
    try:
        flowfile.redact_flows(flows, flowfile.load_rules(Path(rules)) if rules else ())
    except flowfile.FlowFileError as error:
        raise exceptions.CommandError(str(error)) from error
    ctx.master.addons.trigger(UpdateHook(flows))


def _chapters(calls: Sequence[http.HTTPFlow]) -> Iterator[Chapter]:
    for call in calls:
        parts: list[Part] = [*transcript(_turns(call), full=True)]
        yield Chapter(call.comment or call.id, parts)


def _turns(flow: flow.Flow) -> list[Turn]:
    """The turn that a call is, or those of a WebSocket."""
    records = _records(flow)
    if not isinstance(flow, http.HTTPFlow) or not records:
        raise exceptions.CommandError("this is no model call that has ended")
    try:
        if flow.websocket:
            pairs = zip(reversed(records), reversed(_asked(flow.websocket)), strict=False)
            return [glance.turn(record, *bodies, sse.MEDIA_TYPE) for record, bodies in pairs][::-1]
        answer = flow.response
        content_type = answer.headers.get("content-type", "") if answer else ""
        return [glance.turn(records[0], flow.request.content or b"", (answer and answer.content) or b"", content_type)]
    except (ValueError, KeyError) as error:
        raise exceptions.CommandError("its bodies cannot be read") from error


def _records(flow: flow.Flow) -> list[Record]:
    if not isinstance(flow, http.HTTPFlow):
        return []
    return [record] if (record := notes.record_of(flow)) else notes.records_of_turns(flow)


def _asked(socket: WebSocketData) -> list[tuple[bytes, bytes]]:
    """What a client asked in each turn, and the answer as the events of a stream."""
    turns: list[tuple[bytes, list[bytes]]] = []
    for message in socket.messages:
        if message.from_client:
            if asks.may_ask(message.content):
                turns.append((message.content, []))
        elif turns:
            turns[-1][1].append(frames.as_event(message.content))
    return [(asked, b"".join(events)) for asked, events in turns]
