"""A client of Responses over a WebSocket: the OpenAI SDK's own, where it is new enough to have one."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai.resources.responses import Responses

Json = dict[str, Any]

is_too_old = not hasattr(Responses, "connect")

needs_client = pytest.mark.skipif(is_too_old, reason="this SDK has no WebSocket client")

ENDS = ("response.completed", "response.incomplete", "response.failed", "response.done", "error")


class Conversation:
    """An open connection of the SDK's."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def send(self, model: str, words: object = "Why does the last test fail?", **more: Any) -> None:
        """Begin a turn."""
        self.connection.send({"type": "response.create", "model": model, "input": words} | more)

    def receive(self) -> Json:
        """The next event, as it came."""
        event = json.loads(self.connection.recv_bytes())
        assert isinstance(event, dict)
        return event

    def events(self) -> list[Json]:
        """What answers a turn, up to its end."""
        events = [self.receive()]
        while events[-1]["type"] not in ENDS:
            events.append(self.receive())
        return events

    def ask(self, model: str, words: object = "Why does the last test fail?", **more: Any) -> Json:
        """A turn from its beginning to its last event."""
        self.send(model, words, **more)
        return self.events()[-1]

    def leave(self) -> None:
        """Hang up without a word."""
        # closed only, it would go on in the thread that reads from it
        self.connection._connection.socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def connected(url: str, *, key: str = "sk-client", headers: dict[str, str] | None = None) -> Iterator[Conversation]:
    """A connection to `{url}/responses`."""
    client = openai.OpenAI(api_key=key, base_url=url, max_retries=0)
    # no reconnecting: a test says itself what is sent again
    with client.responses.connect(extra_headers=headers or {}, max_retries=0) as connection:
        yield Conversation(connection)
