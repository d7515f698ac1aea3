"""What a check of the machine found: the value that ``engine doctor`` prints as a line and a remedy."""

import errno
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["OUT_OF_FILES", "Check", "Finding", "checks", "good", "lack", "weak"]

OUT_OF_FILES = "raise the limit on open files: ulimit -n 4096"

State = Literal["ok", "weak", "LACK"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the machine offers or lacks."""

    name: str
    state: State  #: "weak" is worth knowing, "LACK" is something the engine needs
    value: str
    remedy: str = ""


Check = Callable[[], Finding]


def good(name: str, value: str) -> Finding:
    """Build the finding of something that is as it should be."""
    return Finding(name, "ok", value)


def weak(name: str, value: str, remedy: str) -> Finding:
    """Build the finding of something that limits the engine, which works nevertheless."""
    return Finding(name, "weak", value, remedy)


def lack(name: str, value: str, remedy: str) -> Finding:
    """Build the finding of something that the engine needs and that is not there."""
    return Finding(name, "LACK", value, remedy)


def checks(name: str, remedy: str) -> Callable[[Callable[[], Finding]], Check]:
    """Make a function a check called ``name``: whatever it raises is a lack, with this ``remedy``."""

    def decorate(look: Callable[[], Finding]) -> Check:
        @functools.wraps(look)
        def check() -> Finding:
            try:
                return look()
            except Exception as error:  # a doctor does not fall ill: what a check raises is what it found
                is_out_of_files = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
                return lack(name, f"{type(error).__name__}: {error}", OUT_OF_FILES if is_out_of_files else remedy)

        return check

    return decorate
