"""The key by which multiprocessing's processes know each other, in a worker.

A ``multiprocessing.Manager`` answers whoever has its creator's key, and multiprocessing makes a key at random when it
is imported. So a worker takes its parent's; but it imports nothing for that, since few tasks need it.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

__all__ = ["take_authkey"]

MODULE = "multiprocessing.process"


def take_authkey(key: bytes) -> None:
    """Have multiprocessing use ``key``: now, or when it is imported."""
    module = sys.modules.get(MODULE)
    if module is None:
        sys.meta_path.insert(0, _Giver(key))
    else:
        module.current_process().authkey = key


class _Giver:
    """Gives the key to the module when it is imported, and goes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_give(module: ModuleType) -> None:
                run(module)
                module.current_process().authkey = self._key

            spec.loader.exec_module = run_and_give  # type: ignore[method-assign]  # of this loader alone
        return spec
