"""All commands behind one name: `python -m harness run --suite smoke`, or `selfalign-harness run --suite smoke`."""

from __future__ import annotations

import runpy
import sys
from importlib.metadata import version

from harness.commands import DISTRIBUTION, doors
from harness.spec.names import nearest

ALIASES = {"search-index": "search_index"}


def main() -> None:
    """Lists the commands, or runs the one that is named."""
    known, words = doors(), sys.argv[1:]
    if words == ["--version"]:
        print(version(DISTRIBUTION))
        return
    if not words or words[0] in ("-h", "--help"):
        print("Usage: python -m harness COMMAND [OPTIONS]\n")
        for name, said in known.items():
            print(f"{name}\n    {said}")
        print("\nCOMMAND -h tells its options.")
        return
    name = ALIASES.get(words[0], words[0])
    if name not in known:
        print(f"error: unknown command {words[0]!r}{nearest(name, known)}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"python -m harness.{name}", *words[1:]]
    runpy.run_module(f"harness.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
