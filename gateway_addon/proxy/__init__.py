"""mitmproxy's side of a live call: hooks, options, flows, and the calls under way."""
