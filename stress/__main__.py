"""Run a stress script by its name: ``python -m stress races --seconds 60``."""

import importlib
import sys
from pathlib import Path

USAGE = "usage: python -m stress NAME [options]; python -m stress --list"


def scripts() -> dict[str, str]:
    """Return each script's name and the question that it opens with."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.name.startswith("_"):
            first = path.read_text(encoding="utf-8").split("\n", 1)[0]
            found[path.stem] = first.strip('"')
    return found


def main(arguments: list[str]) -> int:
    """Run the script that the first argument names with the rest of them; return its exit code."""
    known = scripts()
    if arguments == ["--list"]:
        print("\n".join(f"{name:10} {question}" for name, question in known.items()))
        return 0
    if not arguments or arguments[0] not in known:
        if arguments:
            print(f"expected NAME to be one of the scripts, got {arguments[0]!r}", file=sys.stderr)
        print(f"{USAGE}\nscripts: {', '.join(known)}", file=sys.stderr)
        return 2
    code: int = importlib.import_module(f"stress.{arguments[0]}").main(arguments[1:])
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
