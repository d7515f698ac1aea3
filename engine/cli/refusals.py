"""How a command says no: in one line, with the exit code that goes with it."""

import sys
import traceback
from collections.abc import Callable

from .units import plain

__all__ = ["Failed", "Refused", "obeyed"]


class Refused(Exception):
    """The command cannot do what was asked; its text is the one line that says why. Exit code 2."""

    exit_code = 2


class Failed(Refused):
    """The command was right, and what it asked for could not be done. Exit code 1.

    ``because`` is what code of the user's raised: it is shown with its traceback.
    """

    exit_code = 1

    def __init__(self, message: str, *, because: BaseException | None = None) -> None:
        super().__init__(message)
        self.because = because


def obeyed(command: str, run: Callable[[], int]) -> int:
    """Call ``run`` and return its exit code, or that of its refusal, which is printed as that of ``command``."""
    try:
        return run()
    except Refused as refused:
        because = getattr(refused, "because", None)
        if because is not None:
            traceback.print_exception(because)
        print(f"{command}: {plain(str(refused))}", file=sys.stderr)
        return refused.exit_code
