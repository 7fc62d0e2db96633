"""Saved flows: reading files, redacting them, and serving their answers again."""
