"""SQLite: what is kept of every call, written by one thread. Nothing outside this folder imports sqlite_utils."""
