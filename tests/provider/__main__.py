"""`python -m tests.provider --port N`: serve until interrupted, for demos and by-hand checks."""

import argparse
import signal

from tests.provider import SCENARIOS, Provider


def table() -> str:
    """The scenarios as the table of README.md."""
    rows = [f"| `{name}` | {scenario.description} |" for name, scenario in SCENARIOS.items()]
    return "\n".join(["| Scenario | Answer |", "| --- | --- |", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 is any free port")
    parser.add_argument("--pace", type=float, default=0.02, help="pause between two events, in seconds")
    parser.add_argument("--list", action="store_true", help="print the scenarios and end")
    arguments = parser.parse_args()
    if arguments.list:
        print(table())
        return
    with Provider(arguments.port, pace=arguments.pace) as provider:
        print(provider.url, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
