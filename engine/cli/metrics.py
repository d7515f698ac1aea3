"""What one source file is like: the CPU-bound step of ``engine demo``, run in worker processes.

It imports only what measuring needs, since a worker imports it before its first file; and it returns plain dicts,
which the parent decodes fastest and ``--json`` writes as they are.
"""

import ast
import warnings
import zlib
from typing import TypedDict, final

__all__ = ["Failure", "Function", "Metrics", "failure", "measure"]


class Function(TypedDict):
    """Where a function is and how long."""

    name: str  #: qualified, such as "Class.method"
    line: int
    lines: int


@final
class Metrics(TypedDict):
    """The measures of one file."""

    path: str
    size_bytes: int
    lines: int
    functions: int
    longest: Function | None  #: the longest function; None if there is none
    branches: int  #: places where control can go two ways
    compression: float  #: size divided by compressed size (zlib)


@final
class Failure(TypedDict):
    """Why a file has no measures."""

    path: str
    kind: str  #: "unreadable", "too large", "not UTF-8", "unparsable", "timed out" or "crashed"
    reason: str


def failure(path: str, kind: str, reason: str) -> Failure:
    """Build a Failure."""
    return {"path": path, "kind": kind, "reason": reason}


def measure(source: tuple[str, bytes]) -> Metrics | Failure:
    """Return the measures of a file, given its path and content; what is wrong with the content is a Failure."""
    path, data = source
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return failure(path, "not UTF-8", f"byte 0x{data[error.start]:02x} at offset {error.start:,}")
    if b"\0" in data:
        return failure(path, "unparsable", f"null byte at offset {data.index(0):,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a parsed file's odd escapes are its author's business
            tree = ast.parse(data)
    except (RecursionError, MemoryError) as error:
        return failure(path, "unparsable", f"too deep for the parser ({type(error).__name__})")
    except SyntaxError as error:
        return failure(path, "unparsable", f"{error.msg}{f' (line {error.lineno})' if error.lineno else ''}")
    except Exception as error:  # unknown encodings, huge numbers: each release raises its own
        return failure(path, "unparsable", f"{type(error).__name__}: {error}")
    functions, longest, branches = _walk(tree)
    return {
        "path": path,
        "size_bytes": len(data),
        "lines": len(data.splitlines()),
        "functions": functions,
        "longest": longest,
        "branches": branches,
        "compression": round(len(data) / len(zlib.compress(data)), 3) if data else 1.0,
    }


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case, ast.comprehension)


def _walk(tree: ast.AST) -> tuple[int, Function | None, int]:
    """Count functions and branches and find the longest function; a stack of ours, for no depth is too deep then."""
    functions = branches = 0
    longest: Function | None = None
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        node, scope = stack.pop()
        if isinstance(node, _DEFINITIONS):
            scope = f"{scope}.{node.name}" if scope else node.name
            if not isinstance(node, ast.ClassDef):
                functions += 1
                longest = _longer(longest, node, scope)
        elif isinstance(node, _BRANCHES):
            branches += 1
            if isinstance(node, ast.comprehension):
                branches += len(node.ifs)
        elif isinstance(node, ast.BoolOp):
            branches += len(node.values) - 1
        stack.extend((child, scope) for child in ast.iter_child_nodes(node))
    return functions, longest, branches


def _longer(longest: Function | None, node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Function:
    """Return the longer of two functions; of equals, the one that comes first in the file."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if longest is not None and (longest["lines"], -longest["line"]) >= (lines, -node.lineno):
        return longest
    return {"name": name, "line": node.lineno, "lines": lines}
