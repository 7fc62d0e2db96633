"""A mitmproxy addon that records what coding agents ask of model providers, and what it cost."""

__version__ = "0.1.0"
