"""Bytes, no I/O: server-sent events, content encodings, JSON text."""
