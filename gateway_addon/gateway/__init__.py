"""The gateway: what leaves changed, on the way to a provider and on the way back. No I/O.

`plan` decides what becomes of a request, with `routing`, `access`, `models` and `rewrites`; `replies` are the gateway's
own answers, `answers` what it changes in others', `patch` how a change goes on record.
"""
