"""Where CPython 3.13's package ``test`` is on this machine."""

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["VARIABLE", "Suite", "find", "version"]

VARIABLE = "ENGINE_CPYTHON_TESTS"
NEEDED = ("test_concurrent_futures/util.py", "support/__init__.py")
_LIBRARY = "import sysconfig; print(sysconfig.get_path('stdlib'))"


@dataclass(frozen=True, slots=True)
class Suite:
    """The folder of the package ``test``; or none, and where it was looked for."""

    folder: Path | None
    searched: str

    @property
    def why_not(self) -> str:
        """Say where the suite was looked for, and what helps."""
        return f"no tests of a CPython 3.13 in {self.searched}; {VARIABLE} may name its folder Lib/test"


def find(environment: Mapping[str, str] = os.environ) -> Suite:
    """Return the suite that ``ENGINE_CPYTHON_TESTS`` names, else the first that is found.

    Raises:
        ValueError: the variable names a folder that is none.
    """
    if named := environment.get(VARIABLE):
        if not _is_suite(Path(named)):
            raise ValueError(f"expected {VARIABLE} to be the folder test of a CPython 3.13, got {named!r}; unset it")
        return Suite(Path(named), named)
    searched = []
    for folder in _candidates(environment):
        if _is_suite(folder):
            return Suite(folder, str(folder))
        searched.append(str(folder))
    return Suite(None, ", ".join(searched) or "any place known")


def version(folder: Path) -> str:
    """Return the version of the CPython that the suite is of, as its header for C says; "3.13" if there is none."""
    header = folder.parents[2] / "include" / "python3.13" / "patchlevel.h"
    text = header.read_text(encoding="utf-8") if header.exists() else ""
    found = re.search(r'#define PY_VERSION\s+"([^"]+)"', text)
    return found[1] if found else "3.13"


def _is_suite(folder: Path) -> bool:
    return all((folder / each).is_file() for each in NEEDED)


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    """Give the folders to look at: beside this interpreter, that of ``python3.13``, and those of pyenv and the like."""
    if sys.version_info[:2] == (3, 13):
        yield Path(sysconfig.get_path("stdlib"), "test")
    if (library := _library_of_python313(environment)) is not None:
        yield library / "test"
    siblings = [Path(sys.base_prefix).parent]
    if root := environment.get("PYENV_ROOT"):
        siblings.append(Path(root, "versions"))
    for versions in siblings:
        yield from sorted(versions.glob("*3.13*/lib/python3.13/test"), reverse=True)


def _library_of_python313(environment: Mapping[str, str]) -> Path | None:
    """Ask the ``python3.13`` on the path for its library; a shim of pyenv that is switched off has none."""
    try:
        run = subprocess.run(
            ["python3.13", "-I", "-c", _LIBRARY],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Path(run.stdout.strip()) if run.returncode == 0 and run.stdout.strip() else None
