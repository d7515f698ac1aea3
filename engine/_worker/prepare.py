"""What a worker does before its first task: look like its parent, and run the initializer."""

import os
import pickle
import sys
from typing import Any

from .. import _lineage
from .._wire.frames import REFUSED
from .authkey import take_authkey
from .failures import describe
from .voice import Voice

__all__ = ["adopt", "initialize"]


def adopt(setup: dict[str, Any]) -> None:
    """Look like the parent: same path, arguments, directory and key; but know that we are a worker."""
    _lineage.is_worker = True
    lines = sys.modules.get("linecache")
    if lines is not None:  # a "<string>" in a traceback is the parent's, not the program that we were started with
        lines.cache.pop("<string>", None)
    sys.path[:] = setup["path"]
    sys.argv[:] = setup["argv"]
    if setup["authkey"] is not None:
        take_authkey(setup["authkey"])
    try:
        os.chdir(setup["cwd"])
    except OSError:  # it was removed; the parent has the same problem
        pass


def initialize(setup: dict[str, Any], voice: Voice) -> bool:
    """Run the initializer. False: it failed, and the parent was told why."""
    if setup["initializer"] is None:
        return True
    pid = os.getpid()
    try:
        initializer, initargs = pickle.loads(setup["initializer"])
        initializer(*initargs)
        if os.getpid() != pid:  # it forked and both returned: only one is our worker
            os._exit(0)
    except BaseException as error:  # whatever it raises, SystemExit too, the parent should hear of it
        name, text, trace = describe(error)
        voice.say(REFUSED, 0, pickle.dumps((name, text[:4000], trace[-16000:])))
        return False
    return True
