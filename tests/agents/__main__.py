"""Real agents, run against the fake provider: `python -m tests.agents [AGENT ...] [--way WAY ...]`.

Not a part of the test command. It needs root on Linux, as agents run where there is no network but the loopback
(`unshare`), and npm. Prints the table of the README; what they said is in the folder `runs` of the cache.
"""

import argparse
import os
import sys

from tests.agents.programs import CACHE, PROGRAMS, Program, install_node
from tests.agents.recipes import WAYS, Result, tried

INSIDE = "GATEWAY_ADDON_AGENTS_INSIDE"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.agents", description=__doc__)
    names = [program.name for program in PROGRAMS]
    parser.add_argument("agents", nargs="*", choices=[[], *names], help="which ones; all if none is named")
    parser.add_argument("--way", choices=WAYS, action="append", help="which ones; may be given again")
    asked = parser.parse_args()
    programs = [program for program in PROGRAMS if not asked.agents or program.name in asked.agents]
    if not os.environ.get(INSIDE):
        install_node()
        missing = {program.name: why for program in programs if (why := program.install())}
        os.environ[INSIDE] = "\n".join(["-", *(f"{name}={why}" for name, why in missing.items())])
        inside = 'ip link set lo up && exec "$0" -m tests.agents "$@"'
        # a process space of its own, too: what agents leave running ends with it
        os.execvp(
            "unshare", ["unshare", "-n", "-p", "-f", "--mount-proc", "sh", "-c", inside, sys.executable, *sys.argv[1:]]
        )
    missing = dict(line.split("=", 1) for line in os.environ[INSIDE].splitlines()[1:])
    confdir = CACHE / "mitmproxy"
    confdir.mkdir(parents=True, exist_ok=True)
    ways = asked.way or list(WAYS)
    lines, failed = [], False
    for program in programs:
        if program.name in missing:
            lines.append(f"| {program.title} | not tried here: {missing[program.name]} |{' |' * len(ways)}")
            continue
        results = {}
        for way in ways:
            result = results[way] = tried(program, way, confdir)
            failed |= result is not None and bool(result.faults)
            print(f"{program.title}, {way}: {_told(result)}", flush=True)
        lines.append(_line(program, results))
    print("\n".join(["", f"| Agent | API | {' | '.join(ways)} |", "| --- " * (len(ways) + 2) + "|", *lines]))
    sys.exit(failed)


def _line(program: Program, results: dict[str, Result | None]) -> str:
    transports = set[str]().union(*(result.transports for result in results.values() if result)) - {"http"}
    api = ", ".join([program.kind, *sorted(transports)])
    cells = " | ".join(_told(result) for result in results.values())
    return f"| {program.title} {program.version()} | {api} | {cells} |"


def _told(result: Result | None) -> str:
    """Calls, and how many of them are a sub-agent's."""
    if result is None:
        return "–"
    told = f"{result.calls} / {result.subs}" if result.subs else str(result.calls)
    return "; ".join([told, *(f"**{fault}**" for fault in result.faults)])


if __name__ == "__main__":
    main()
