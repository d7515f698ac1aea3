"""CPython's own tests of its executors, run against those of ``engine.futures``.

Nothing of CPython is in this folder. The suite is found beside a CPython 3.13 (``suite.py``), its classes are given our
executors (``adapter.py``), each of its tests is run by one of a few children (``child.py``, ``children.py``), and each
is one test of pytest (``test_cpython.py``). ``expected.toml`` names each test that does not apply, with its reason: it
must not pass, and every other one must.
"""
