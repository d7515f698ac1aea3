"""The package ``test`` of a CPython 3.13, on whatever Python runs: its folder is in ``ENGINE_CPYTHON_TESTS``.

It stands first on the path of every process of ``tests/compat``, so that workers and scripts find the same package.
"""

import os

__path__ = [os.environ["ENGINE_CPYTHON_TESTS"]]
