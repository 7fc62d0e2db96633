"""Finished calls as OpenTelemetry spans, over OTLP/HTTP: read from the database, never from mitmproxy's hooks.

`names` has every attribute's name, `spans` makes spans of rows, `export` sends them and remembers how far it came,
`send` is the one module that needs the extra `otlp`.
"""
