"""Tests with other people's libraries, as they are released; tox's ``ecosystem`` environment has them all.

Elsewhere what is not installed is not collected; there, a library that is missing is an error.
"""

import importlib.util
import os

LIBRARIES = ("anyio", "dask", "ipykernel", "joblib", "jupyter_client", "pandas", "sklearn")
MISSING = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]

if MISSING and os.environ.get("ENGINE_ECOSYSTEM") == "all":
    raise ImportError(f"expected every library of the extra 'ecosystem' to be installed, got none of {MISSING}")

collect_ignore_glob = ["test_*.py"] if MISSING else []
