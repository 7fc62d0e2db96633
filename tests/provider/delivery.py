"""How an answer gets onto the wire: encoding, framing, and where it stops. No I/O: it ends in a list of writes."""

import base64
import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, Protocol

import brotli  # type: ignore[import-untyped]
import zstandard

Edit = Callable[[list[bytes]], list[bytes]]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An HTTP response: its body comes in pieces, one per event."""

    status: int = 200
    content_type: str
    pieces: Sequence[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_event_stream(self) -> bool:
        return self.content_type.startswith("text/event-stream")


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The manner of sending a reply. Writes are counted from the head of the response, which is the first.

    `hold_after` and `cut_after` take effect before the last write at the latest, so that a short answer is held and cut
    too.
    """

    edit: Edit = list
    """Applied to the pieces first."""
    encodings: tuple[str, ...] = ()
    """Content codings in the order they are applied; each piece is flushed."""
    corrupt: bool = False
    """The second half of the pieces is overwritten after encoding."""
    write_size: int | None = None
    """Bytes of body per write; None: one piece per write."""
    framing: Literal["chunked", "length", "close"] | None = None
    """None: chunked for an event stream, else by length."""
    label: str | None = None
    """The `content-type` said instead of the true one; "" is none at all."""
    hold_after: int | None = None
    """Writes that leave at once; each later one waits for a pass of the provider's gate, or for the client to go."""
    cut_after: int | None = None
    """Writes after which the connection is closed; 0: no answer at all."""


def writes(reply: Reply, delivery: Delivery) -> list[bytes]:
    """The reply as what is written to the socket, element by element; the head is the first."""
    pieces = _encoded(delivery.edit(list(reply.pieces)), delivery.encodings)
    if delivery.corrupt:
        half = len(pieces) // 2
        pieces[half:] = [b"\xff" * len(piece) for piece in pieces[half:]]
    if size := delivery.write_size:
        pieces = [piece[at : at + size] for piece in pieces for at in range(0, len(piece), size)]
    framing = delivery.framing or ("chunked" if reply.is_event_stream else "length")
    label = reply.content_type if delivery.label is None else delivery.label
    headers = ({"content-type": label} if label else {}) | dict(reply.headers)
    if delivery.encodings:
        headers["content-encoding"] = ", ".join(delivery.encodings)
    match framing:
        case "chunked":
            headers["transfer-encoding"] = "chunked"
            pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece] + [b"0\r\n\r\n"]
        case "length":
            headers["content-length"] = str(sum(map(len, pieces)))
        case "close":
            headers["connection"] = "close"
    return [_head(reply.status, headers), *pieces]


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus else "Overloaded"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


class _Compressor(Protocol):
    def __call__(self, piece: bytes, last: bool) -> bytes: ...


def _gzip() -> _Compressor:
    stream = zlib.compressobj(wbits=31)
    return lambda piece, last: stream.compress(piece) + stream.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def _br() -> _Compressor:
    stream = brotli.Compressor()
    return lambda piece, last: stream.process(piece) + (stream.finish() if last else stream.flush())


def _zstd() -> _Compressor:
    stream = zstandard.ZstdCompressor().compressobj()
    finish, block = zstandard.COMPRESSOBJ_FLUSH_FINISH, zstandard.COMPRESSOBJ_FLUSH_BLOCK
    return lambda piece, last: stream.compress(piece) + stream.flush(finish if last else block)


_COMPRESSORS: dict[str, Callable[[], _Compressor]] = {"gzip": _gzip, "br": _br, "zstd": _zstd}


def _encoded(pieces: list[bytes], encodings: Sequence[str]) -> list[bytes]:
    for encoding in encodings:
        compress = _COMPRESSORS[encoding]()
        pieces = [compress(piece, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]
    return pieces


# Edits: they know server-sent events, but nothing of the kinds.


def cr_line_ends(pieces: list[bytes]) -> list[bytes]:
    return [piece.replace(b"\n", b"\r") for piece in pieces]


def mixed_line_ends(pieces: list[bytes]) -> list[bytes]:
    ends = (b"\n", b"\r\n", b"\r")
    return [piece.replace(b"\n", ends[i % 3]) for i, piece in enumerate(pieces)]


def byte_order_mark(pieces: list[bytes]) -> list[bytes]:
    return [b"\xef\xbb\xbf" + pieces[0], *pieces[1:]]


def two_data_lines(pieces: list[bytes]) -> list[bytes]:
    return [piece.replace(b"data: {", b"data: {\ndata: ", 1) for piece in pieces]


def no_space_after_colon(pieces: list[bytes]) -> list[bytes]:
    return [re.sub(rb"^(event|data): ", rb"\1:", piece, flags=re.MULTILINE) for piece in pieces]


def no_event_names(pieces: list[bytes]) -> list[bytes]:
    return [re.sub(rb"^event: .*\n", b"", piece) for piece in pieces]


def no_final_blank_line(pieces: list[bytes]) -> list[bytes]:
    return [*pieces[:-1], pieces[-1].rstrip(b"\n")]


def no_done(pieces: list[bytes]) -> list[bytes]:
    return [piece for piece in pieces if not piece.endswith(b"data: [DONE]\n\n")]


def named_done(pieces: list[bytes]) -> list[bytes]:
    return [*no_done(pieces), b"event: data\ndata: [DONE]\n\n"]


def data_after_done(pieces: list[bytes]) -> list[bytes]:
    return [*named_done(pieces), b'data: {"error":{"message":"too late to matter"}}\n\n']


def padded(pieces: list[bytes]) -> list[bytes]:
    """Whitespace first, the way OpenRouter keeps a slow JSON answer alive."""
    return [b"\n         " * 3, *pieces]


def aws_event_stream(pieces: list[bytes]) -> list[bytes]:
    """The data of each event as Bedrock packs it, in a message of AWS's binary stream."""
    data = [piece.partition(b"data: ")[2].strip() for piece in pieces]
    return [_aws_message(each) for each in data if each.startswith(b"{")]


def _aws_message(data: bytes) -> bytes:
    headers = b"".join(
        bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
        for name, value in ((b":event-type", b"chunk"), (b":message-type", b"event"))
    )
    payload = json.dumps({"bytes": base64.b64encode(data).decode(), "p": "abc"}).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def in_halves(pieces: list[bytes]) -> list[bytes]:
    """Two pieces per event, so that one can stop in the middle."""
    return [half for piece in pieces for half in (piece[: len(piece) // 2], piece[len(piece) // 2 :])]
