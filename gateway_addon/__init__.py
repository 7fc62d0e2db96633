"""A mitmproxy addon that records what coding agents ask of model providers, and what it cost."""

from importlib.metadata import version

__version__ = version("gateway-addon")
