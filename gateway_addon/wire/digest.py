"""SHA-256 on the event loop: what is short is hashed without giving the interpreter away."""

import hashlib

_PIECE, _MAX_HELD = 2047, 64 * 1024
"""Bytes: the most in one piece for which hashlib does not let other threads run, whose return a short hash would have
to wait for; and the most that is hashed so, in some 0.1 ms."""

type Sha256 = "hashlib._Hash"


def add(sha256: Sha256, data: bytes) -> None:
    """Go on hashing."""
    if len(data) > _MAX_HELD:
        sha256.update(data)
        return
    for start in range(0, len(data), _PIECE):
        sha256.update(data[start : start + _PIECE])


def sha256_of(data: bytes) -> str:
    """The hash in hex."""
    sha256 = hashlib.sha256()
    add(sha256, data)
    return sha256.hexdigest()
