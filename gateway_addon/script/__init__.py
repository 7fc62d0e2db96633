"""Alone in its folder, because mitmproxy puts the folder of a script at the front of `sys.path`."""
