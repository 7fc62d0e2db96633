"""What the addon costs, in one table: `python -m tests.benchmarks [NAME ...] [--quick]` (Linux; see README.md)."""

import argparse

from tests.benchmarks import calls, deltas, files, hostile, many, sessions, storage, streams
from tests.benchmarks.table import lines

BENCHMARKS = {
    module.__name__.rpartition(".")[2]: module
    for module in (deltas, streams, many, sessions, calls, files, hostile, storage)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], help="which ones; all if none is named")
    parser.add_argument(
        "--quick", action="store_true", help="once each and smaller: whether it works, not what it costs"
    )
    asked = parser.parse_args()
    figures = []
    for name in asked.names or BENCHMARKS:
        print(f"{name} ...", flush=True)
        figures += BENCHMARKS[name].run(asked.quick)
    print("\n".join(lines(figures)))


if __name__ == "__main__":
    main()
