"""The WebSocket side: turns of Responses on one connection, each answered as a stream would be, an event a message."""

import asyncio
import json
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple

from wsproto import ConnectionState, ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate
from wsproto.handshake import server_extensions_handshake
from wsproto.utilities import generate_accept_token, split_comma_header

from tests.provider.answer import Json, objects
from tests.provider.delivery import Delivery, Reply


class Received(NamedTuple):
    """A message as it came."""

    data: bytes
    frames: int

    @property
    def json(self) -> Json:
        """The message as a JSON object; `{}` for anything else."""
        try:
            body = json.loads(self.data)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


class Socket:
    """An open WebSocket, the server's end."""

    def __init__(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._messages: deque[Received] = deque()
        self._pieces: list[bytes] = []
        self._frames = 1

    async def receive(self) -> Received | None:
        """The next message; None when the client has closed the connection, in whatever way."""
        while not self._messages:
            data = await self._reader.read(65536)
            if not data:
                return None
            if not self._take(data):
                return None
        return self._messages.popleft()

    def _take(self, data: bytes) -> bool:
        self._connection.receive_data(data)
        for event in self._connection.events():
            match event:
                case Message():
                    self._pieces.append(event.data.encode() if isinstance(event.data, str) else event.data)
                    if event.message_finished:
                        self._messages.append(Received(b"".join(self._pieces), self._frames))
                        self._pieces, self._frames = [], 1
                    elif event.frame_finished:
                        self._frames += 1
                case Ping():
                    self._writer.write(self._connection.send(event.response()))
                case CloseConnection():
                    if self._connection.state is ConnectionState.REMOTE_CLOSING:
                        self._writer.write(self._connection.send(event.response()))
                    return False
        return True

    async def send(self, data: bytes, *, binary: bool = False) -> None:
        """Send a message in one frame."""
        event = BytesMessage(data) if binary else TextMessage(data.decode())
        self._writer.write(self._connection.send(event))
        await self._writer.drain()

    async def close(self, code: int = 1000) -> None:
        self._writer.write(self._connection.send(CloseConnection(code)))
        await self._writer.drain()

    async def unless_client_leaves(self, held: Coroutine[Any, Any, None]) -> None:
        """Wait for a pass. Raises ConnectionResetError if the client leaves first."""
        passed = asyncio.ensure_future(held)
        try:
            while not passed.done():
                news = asyncio.ensure_future(self._reader.read(65536))
                await asyncio.wait({passed, news}, return_when=asyncio.FIRST_COMPLETED)
                if not news.done():
                    news.cancel()
                    await asyncio.gather(news, return_exceptions=True)
                elif not news.result() or not self._take(news.result()):
                    raise ConnectionResetError
        finally:
            passed.cancel()
            await asyncio.gather(passed, return_exceptions=True)


async def accept(headers: Mapping[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Socket:
    """Answer an upgrade with 101; permessage-deflate is taken if it is offered."""
    token = generate_accept_token(headers["sec-websocket-key"].encode()).decode()
    head = ["HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: Upgrade"]
    head += [f"sec-websocket-accept: {token}", "x-request-id: req_socket"]
    deflate = PerMessageDeflate()
    offered = split_comma_header(headers.get("sec-websocket-extensions", "").encode())
    taken = server_extensions_handshake(offered, [deflate]) if offered else None
    if taken:
        head.append(f"sec-websocket-extensions: {taken.decode()}")
    writer.write("\r\n".join([*head, "", ""]).encode())
    await writer.drain()
    return Socket(Connection(ConnectionType.SERVER, [deflate] if taken else []), reader, writer)


def frames(reply: Reply, delivery: Delivery) -> list[bytes]:
    """A reply as messages: the data of each event, or the error of a status line."""
    pieces = delivery.edit(list(reply.pieces))
    if reply.is_event_stream:
        data = [piece.partition(b"data: ")[2].strip() for piece in pieces]
        return [each for each in data if each and each != b"[DONE]"]
    body = json.loads(b"".join(pieces))
    return [json.dumps({"type": "error", "status": reply.status, "error": body["error"]}).encode()]


class History:
    """What was said on a connection, by the id of the answer it ends with."""

    def __init__(self) -> None:
        self._said: dict[str, list[Json]] = {}

    def complete(self, body: Json) -> Json | None:
        """A request with all that it leaves out; None if it goes on from an answer that nobody knows."""
        previous, given = body.get("previous_response_id"), body.get("input")
        new = [{"role": "user", "content": given}] if isinstance(given, str) else objects(given)
        if previous is None:
            return body | {"input": new}
        return body | {"input": self._said[previous] + new} if previous in self._said else None

    def learn(self, body: Json, sent: list[bytes]) -> None:
        """Remember a turn: its whole request, and the messages that answered it."""
        for event in map(json.loads, sent):
            if event["type"] == "response.completed":
                self._said[event["response"]["id"]] = [*body["input"], *event["response"]["output"]]
