"""Trees of Python files for the demo: good ones, bad ones, and many that take long."""

import os
from pathlib import Path

__all__ = ["LARGE", "make_bad_files", "make_long_work", "make_tree"]

#: A source file that takes some 20 ms to measure.
LARGE = "\n".join(
    f"class C{number}:\n    def f(self, a, b):\n        if a and b or a:\n            return [x for x in a if x]\n"
    for number in range(400)
)


def make_tree(root: Path) -> dict[str, str]:
    """Make good files; give their paths and contents."""
    files = {
        "a.py": "def one():\n    return 1\n",
        "empty.py": "",
        "pkg/b.py": "class C:\n    def f(self):\n        if self and 1:\n            return 2\n        return 3\n",
        "pkg/\u00fc.py": "x = 'gr\u00fc\u00dfe'\n",
        "pkg/sub/large.py": LARGE,
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return files


def make_bad_files(root: Path) -> dict[str, str]:
    """Make files that cannot be measured; give their paths and kinds."""
    contents = {
        "bad/latin.py": (b"# coding: latin-1\nx = '\xe9'\n", "not UTF-8"),
        "bad/null.py": (b"x\0y\n", "unparsable"),
        "bad/syntax.py": (b"def (:\n", "unparsable"),
        "bad/deep.py": (b"-" * 100_000 + b"1", "unparsable"),
        "bad/brackets.py": (b"[" * 100_000, "unparsable"),
        "bad/coding.py": (b"# coding: klingon\n", "unparsable"),
        "bad/two\nlines\x1b[31m.py": (b"1 1\n", "unparsable"),
    }
    (root / "bad").mkdir(parents=True)
    for path, (data, _) in contents.items():
        (root / path).write_bytes(data)
    with open(os.fsencode(root) + b"/bad/br\xe9ken.py", "wb") as file:
        file.write(b"1 1\n")
    (root / "bad/dangling.py").symlink_to("nowhere.py")
    (root / "bad/self.py").symlink_to("self.py")
    (root / "bad/loop").symlink_to(root, target_is_directory=True)
    (root / "bad/directory.py").mkdir()
    os.mkfifo(root / "bad/pipe.py")
    with open(root / "bad/huge.py", "wb") as file:
        file.truncate(9_000_000)
    return {path: kind for path, (_, kind) in contents.items()} | {
        "bad/br\udce9ken.py": "unparsable",
        "bad/dangling.py": "unreadable",
        "bad/self.py": "unreadable",
        "bad/pipe.py": "unreadable",
        "bad/huge.py": "too large",
    }


def make_long_work(root: Path, files: int = 400) -> None:
    """Make files that take some 20 ms each."""
    (root / "tree").mkdir()
    for number in range(files):
        (root / "tree" / f"{number:03}.py").write_text(LARGE)
