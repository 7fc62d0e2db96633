"""Content encodings: decoding a body as it arrives, or as a whole (RFC 9110, section 8.4)."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple, Protocol

import brotli  # type: ignore[import-untyped]
import zstandard

FREE_BYTES = 4 * 1024 * 1024
"""Decoded bytes that are always allowed, however few encoded ones they come from."""
MAX_RATIO = 200
"""Decoded bytes allowed on top for each encoded one."""
MAX_CODINGS = 5
"""Stacked codings allowed (curl's limit as well): each costs memory before any data has come."""

_PIECE = 64 * 1024
# Encoded bytes given to a coding at once. A single zstd call cannot be told to stop: 256 bytes make 8 MiB at most.
# The libraries give nothing from a call that fails, so for zstd and br this is how much is lost in front of corrupt
# data; the zlib codings lose none (see `_bounded`).
_STEP = 256
_GZIP = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"


class DecodeError(ValueError):
    """A content encoding is unknown, or data is not what its encoding says, is cut off, or expands too much."""


class TooLargeError(DecodeError):
    """A body is longer than the reader wants it."""


class Decoder:
    """Decodes one body, piece by piece. Made by `decoder`."""

    def __init__(self, codings: list[str]) -> None:
        self._stages = [_Stage(name) for name in reversed(codings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """All that can be decoded so far, in pieces (most under 64 KiB); to be exhausted before the next call.

        Raises `DecodeError` after the last good piece. No encoding: `data` itself.
        """
        for stage in self._stages:
            stage.allowed += MAX_RATIO * len(data)
        pieces = iter((data,) if data else ())
        for stage in self._stages:
            pieces = chain.from_iterable(map(stage.feed, pieces))
        return pieces

    def finish(self) -> None:
        """To be called at the end of the data; raises `DecodeError` if it was cut off. No data at all is no error."""
        for stage in self._stages:
            stage.finish()


def decoder(content_encoding: str | None) -> Decoder:
    """The decoder for a `content-encoding` header's value; None, "" and `identity` change nothing.

    Raises `DecodeError` for an encoding that is not known.
    """
    return Decoder(_codings(content_encoding))


def decode(body: bytes, content_encoding: str | None, limit: int) -> bytes:
    """Decode a whole body. Raises `DecodeError`, also if the result is longer than `limit` bytes."""
    stream = decoder(content_encoding)
    pieces, size = [], 0
    for piece in stream.feed(body):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise TooLargeError(f"decodes to more than {limit} bytes")
    stream.finish()
    return b"".join(pieces)


def encode(body: bytes, content_encoding: str | None, *, cut_off: bool = False) -> bytes:
    """Encode a whole body for sending, quickly rather than tightly. Raises `DecodeError` for an unknown encoding.

    `cut_off`: as if the end had never come; all of `body` can be decoded again, and then `Decoder.finish` raises.
    """
    for name in _codings(content_encoding):
        coding = _CODINGS[name]
        body = coding.begin(body) if cut_off else coding.encode(body)
    return body


def _codings(content_encoding: str | None) -> list[str]:
    """The codings named, in the order they were applied."""
    names = [name.strip().lower() for name in (content_encoding or "").split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if len(names) > MAX_CODINGS:
        raise DecodeError(f"{len(names)} content encodings stacked")
    for name in names:
        if name not in _CODINGS:
            raise DecodeError(f"unknown content encoding {name!r}")
    return names


class _Stream(Protocol):
    """One coding's state for one body."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    @property
    def complete(self) -> bool:
        """Whether the data fed so far may be all of it."""


class _Stage:
    """One coding of a body: what the codings have in common, which is limits and errors."""

    def __init__(self, name: str) -> None:
        self.allowed = FREE_BYTES
        """Bytes that may still be decoded; grows with the body as received, whatever the stages before made of it."""
        self._name = name
        self._stream = _CODINGS[name].stream()
        self._step = _CODINGS[name].step
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._started = True
        try:
            for start in range(0, len(data), self._step):
                for piece in self._stream.feed(data[start : start + self._step]):
                    self.allowed -= len(piece)
                    if self.allowed < 0:
                        raise DecodeError(f"{self._name} data expands too much")
                    if piece:
                        yield piece
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            raise DecodeError(f"{self._name} data is corrupt: {error}") from error

    def finish(self) -> None:
        if self._started and not self._stream.complete:
            raise DecodeError(f"{self._name} data is cut off")


class _Gzip:
    """Members, one after the other. Anything else behind a member is ignored, as browsers do."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._between = b""  # the first two bytes behind a member: a magic number, half of one, or garbage

    def feed(self, data: bytes) -> Iterator[bytes]:
        data = self._between + data
        self._between = b""
        while data:
            if self._member.eof:
                if not data.startswith(_GZIP_MAGIC):
                    self._between = data[:2]
                    return
                self._member = zlib.decompressobj(_GZIP)
            yield from _bounded(self._member, data)
            data = self._member.unused_data

    @property
    def complete(self) -> bool:
        return self._member.eof


class _Deflate:
    """zlib's format as the standard says, or raw deflate as some servers send it."""

    def __init__(self) -> None:
        self._inflate: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            # The compression method of a zlib header; no raw stream that an encoder writes begins like that
            is_zlib = data[0] & 0x0F == zlib.DEFLATED
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        if not self._inflate.eof:  # zlib would collect all that follows
            yield from _bounded(self._inflate, data)

    @property
    def complete(self) -> bool:
        return self._inflate is not None and self._inflate.eof


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        full = True
        while full:
            piece = self._stream.process(data, output_buffer_limit=_PIECE)
            yield piece
            data = b""
            full = len(piece) >= _PIECE

    @property
    def complete(self) -> bool:
        return bool(self._stream.is_finished())


class _Zstd:
    """Frames, one after the other."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame = self._decompressor.decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
            yield self._frame.decompress(data)
            data = self._frame.unused_data

    @property
    def complete(self) -> bool:
        return self._frame.eof


def _bounded(stream: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    """What zlib makes of `data`, in pieces of at most 64 KiB."""
    before, source, given = stream.copy(), data, 0
    full = False
    try:
        # A full piece may have left output inside even when all input is consumed
        while data or full:
            piece = stream.decompress(data, _PIECE)
            yield piece
            given += len(piece)
            data = stream.unconsumed_tail
            full = len(piece) == _PIECE
    except zlib.error:
        # zlib gives nothing from a call that fails. Byte by byte, all in front of the damage comes out, so that what
        # is read does not depend on how the data was cut up; the damaged byte raises again
        for i in range(len(source)):
            piece = before.decompress(source[i : i + 1])
            yield piece[max(0, given) :]
            given -= len(piece)
        raise


class _Coding(NamedTuple):
    stream: Callable[[], _Stream]
    encode: Callable[[bytes], bytes]
    begin: Callable[[bytes], bytes]
    """`encode` without the end."""
    step: int
    """Encoded bytes given to the stream at once."""


def _begin_zlib(body: bytes, wbits: int) -> bytes:
    stream = zlib.compressobj(4, wbits=wbits)
    return stream.compress(body) + stream.flush(zlib.Z_SYNC_FLUSH)


def _begin_brotli(body: bytes) -> bytes:
    stream = brotli.Compressor(quality=4)
    return bytes(stream.process(body) + stream.flush())


def _begin_zstd(body: bytes) -> bytes:
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(body) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


_GZIP_CODING = _Coding(
    _Gzip, lambda body: gzip.compress(body, compresslevel=4, mtime=0), lambda body: _begin_zlib(body, _GZIP), _PIECE
)
_CODINGS = {
    "gzip": _GZIP_CODING,
    "x-gzip": _GZIP_CODING,
    "deflate": _Coding(
        _Deflate, lambda body: zlib.compress(body, level=4), lambda body: _begin_zlib(body, zlib.MAX_WBITS), _PIECE
    ),
    "br": _Coding(_Brotli, lambda body: brotli.compress(body, quality=4), _begin_brotli, _STEP),
    "zstd": _Coding(_Zstd, zstandard.compress, _begin_zstd, _STEP),
}
