"""The provider as an HTTP/1.1 server on loopback, in a thread of its own, with every byte in the scenario's hands."""

import asyncio
import json
import ssl
import threading
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Self

from tests.provider import responses, websocket
from tests.provider.answer import Answer, Error, Json, Kind, Usage
from tests.provider.delivery import Delivery, Reply, writes
from tests.provider.endpoints import kind_of_path, side_reply
from tests.provider.replies import Call, json_reply, says
from tests.provider.scenarios import SCENARIOS, Scenario

PATIENCE = 20.0
"""Seconds that a test waits for something that must come; only a failing test ever waits that long."""

PREFIX = "fake/"

MAX_HEAD = 8_000_000
"""Bytes of a request's head; some tests send odd ones."""


@dataclass(eq=False)
class Received:
    """A request as it arrived."""

    method: str
    path: str
    """With the query."""
    headers: dict[str, str]
    """Names in lower case; repeated headers are joined with a comma."""
    body: bytes
    sent: bytearray = field(default_factory=bytearray)
    """What was answered so far, head and framing included."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set once the answer has left, or cannot leave any more."""
    client_left: bool = False
    """The client closed the connection before the whole answer had left."""
    frames: int = 1
    """In how many frames a message of a WebSocket came."""

    @property
    def json(self) -> Json:
        """The body as a JSON object; `{}` for anything else."""
        try:
            body = json.loads(self.body)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


class Gate:
    """Holds answers whose delivery says so, until a test lets their writes pass."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._passes = asyncio.Semaphore(0)
        self._is_open = False

    def let_pass(self, writes: int = 1) -> None:
        """Let this many held writes leave, now or when they come."""
        for _ in range(writes):
            self._loop.call_soon_threadsafe(self._passes.release)

    def open(self) -> None:
        """Let everything leave from now on."""
        self._is_open = True
        self.let_pass()

    async def passed(self) -> None:
        await self._passes.acquire()
        if self._is_open:
            self._passes.release()  # the next one may pass as well


class Provider:
    """A fake model provider: `with Provider() as provider:` serves on `provider.url` until the block ends.

    `port` 0 is any free one. `pace` is a pause between two writes in seconds, to watch a demo; tests use the gate. With
    `tls` it speaks HTTPS. An exception in a scenario is raised at `reset` or at the end of the block.
    """

    def __init__(self, port: int = 0, *, pace: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        self.url = ""
        """Without a trailing slash and path."""
        self.requests: list[Received] = []
        """All requests since the last `reset`, in order of arrival."""
        self.default = "agent"
        """The scenario of a call whose model names none."""
        self._port = port
        self._pace = pace
        self._tls = tls
        self._script: deque[Scenario] = deque()
        self._calls = 0
        self._crashes: list[Exception] = []
        self._arrival = threading.Condition()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self.gate = Gate(self._loop)
        self._thread = threading.Thread(target=self._run, name="fake provider", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(PATIENCE)
        assert self.url, f"the provider could not listen on port {self._port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        self._raise_crash()

    def script(self, *scenarios: str | Scenario) -> None:
        """Choose what the next model calls get, in this order and whatever their model; then models choose again."""
        self._script.extend(SCENARIOS[s] if isinstance(s, str) else s for s in scenarios)

    def wait_for_request(self, number: int = 1) -> Received:
        """The request of this number (from 1) since the last `reset`, as soon as it has arrived."""
        with self._arrival:
            assert self._arrival.wait_for(lambda: len(self.requests) >= number, PATIENCE), "no such request arrived"
            return self.requests[number - 1]

    def reset(self) -> None:
        """Forget requests, script and numbering; let go of everything that is still held."""
        self.gate.open()
        self.gate = Gate(self._loop)
        self.requests = []
        self.default = "agent"
        self._script.clear()
        self._calls = 0
        self._raise_crash()

    def _raise_crash(self) -> None:
        crashes, self._crashes = self._crashes, []
        if crashes:
            raise crashes[0]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            finally:
                self._ready.set()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._port, ssl=self._tls, limit=MAX_HEAD)
        host, port = server.sockets[0].getsockname()
        self.url = f"{'https' if self._tls else 'http'}://{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while received := await _read_request(reader):
                with self._arrival:
                    self.requests.append(received)
                    self._arrival.notify_all()
                try:
                    await self._answer(received, reader, writer)
                except ConnectionError:
                    received.client_left = True
                    return
                finally:
                    received.ended.set()
                if writer.is_closing():
                    return
        except Exception as crash:
            self._crashes.append(crash)
        finally:
            writer.close()

    async def _answer(self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send the answer, and close the connection where the delivery ends with that.

        Raises ConnectionError if the client leaves before.
        """
        if received.headers.get("upgrade", "").lower() == "websocket":
            await self._converse(received, reader, writer)
            return
        reply, delivery = self._choose(received)
        parts = writes(reply, delivery)
        last = len(parts) - 1
        held = last + 1 if delivery.hold_after is None else min(delivery.hold_after, last)
        cut = last + 1 if delivery.cut_after is None else min(delivery.cut_after, last)
        gate = self.gate
        for i, part in enumerate(parts[:cut]):
            if i >= held:
                await _unless_client_leaves(gate.passed(), reader)
            elif self._pace:
                await asyncio.sleep(self._pace)
            received.sent += part
            writer.write(part)
            await writer.drain()
        if cut <= last or delivery.framing == "close" or received.headers.get("connection") == "close":
            writer.close()

    async def _converse(self, upgrade: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the turns of a WebSocket, one after the other, until either side ends it."""
        socket = await websocket.accept(upgrade.headers, reader, writer)
        history = websocket.History()
        try:
            while message := await socket.receive():
                body = message.json
                if body.get("type") != "response.create":
                    continue
                received = Received("response.create", upgrade.path, upgrade.headers, message.data)
                received.frames = message.frames
                with self._arrival:
                    self.requests.append(received)
                    self._arrival.notify_all()
                try:
                    if not await self._take_turn(received, history, body, socket):
                        return
                except ConnectionError:
                    received.client_left = True
                    raise
                finally:
                    received.ended.set()
        finally:
            writer.close()

    async def _take_turn(
        self, received: Received, history: websocket.History, body: Json, socket: websocket.Socket
    ) -> bool:
        """Answer a turn. Returns whether the connection goes on."""
        whole = history.complete(body)
        if whole is None:
            unknown = Error(status=400, type="previous_response_not_found", message="No such response.")
            reply, delivery = json_reply({"error": {"code": unknown.type, "message": unknown.message}}, 400), Delivery()
        elif body.get("generate") is False:
            self._calls += 1
            warm = Answer(id=f"{self._calls:04d}", model=str(body.get("model", "")), usage=Usage(input=0, output=0))
            reply, delivery = says(warm)(Call(responses, whole | {"stream": True}, warm.id)), Delivery()
        else:
            reply, delivery = self._scene(responses, whole | {"stream": True})
        frames = websocket.frames(reply, delivery)
        held = len(frames) if delivery.hold_after is None else delivery.hold_after
        cut = len(frames) if delivery.cut_after is None else delivery.cut_after
        gate = self.gate
        for i, frame in enumerate(frames[:cut]):
            if i >= held:
                await socket.unless_client_leaves(gate.passed())
            elif self._pace:
                await asyncio.sleep(self._pace)
            received.sent += frame
            await socket.send(frame)
        if whole is not None:
            history.learn(whole, frames)
        if b"websocket_connection_limit_reached" in frames[-1]:
            await socket.close()
            return False
        return cut >= len(frames)

    def _choose(self, received: Received) -> tuple[Reply, Delivery]:
        kind = kind_of_path(received.path)
        if kind is None or received.method != "POST":
            return side_reply(received.method, received.path, received.json), Delivery()
        return self._scene(kind, received.json)

    def _scene(self, kind: Kind, body: Json) -> tuple[Reply, Delivery]:
        self._calls += 1
        call = Call(kind, body, f"{self._calls:04d}")
        scenario = self._script.popleft() if self._script else self._named(call.model)
        if scenario is None:
            unknown = Error(status=404, type="not_found_error", message=f"No such model: {call.model}")
            return json_reply(kind.error_body(unknown), 404), Delivery()
        return scenario.reply(call), scenario.delivery

    def _named(self, model: str) -> Scenario | None:
        if model.startswith(PREFIX):
            return SCENARIOS.get(model.removeprefix(PREFIX))
        return SCENARIOS[self.default]


async def _unless_client_leaves(held: Coroutine[Any, Any, None], reader: asyncio.StreamReader) -> None:
    """Wait for a pass. Raises ConnectionResetError if the client closes the connection first.

    A client sends nothing while it waits for its answer, so whatever can be read is the end of the connection.
    """
    passed, gone = asyncio.ensure_future(held), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({passed, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not passed.done():
            raise ConnectionResetError
    finally:
        passed.cancel()
        gone.cancel()
        # the reader takes no other reading before this one has really ended
        await asyncio.gather(passed, gone, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    """The next request on a connection; None when the client has closed it."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    request_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, path, _ = request_line.split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    try:
        body = await _read_body(reader, headers)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Received(method, path, headers, body)


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body
