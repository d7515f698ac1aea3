"""Imports inside ``engine`` go downwards only, and nothing goes round in a circle."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import REPOSITORY

ENGINE = REPOSITORY / "engine"
PUBLIC = 5

#: Layer → its modules, below ``engine``. A name stands for the package of that name too, with all that is in it.
#: A new module goes here, as low as what it imports allows.
LAYERS: dict[int, frozenset[str]] = {
    0: frozenset({"errors", "_states", "_clock", "_checks", "_forks", "_lineage", "_system"}),
    1: frozenset({"retry", "_options", "_routing", "_queue", "_verdict"}),
    2: frozenset({"_registry", "_limits", "events", "_mailbox", "_current", "_latch", "_records", "_sigint", "_wire"})
    | frozenset({"_shared", "_sharing"}),
    3: frozenset({"_lanes", "_worker"}),
    4: frozenset({"task", "futures"}),  # and every other module with an underscore: the front is where new parts begin
    PUBLIC: frozenset({"manager", "cli", "pipeline", "jobs", "observe", "integrations", "testing", "__main__"}),
}
#: What a worker process may import: it starts in the time that these take.
CHILD_SIDE = frozenset({"_worker", "_wire", "errors", "_current", "_checks", "_clock", "_lineage"})
#: The private modules that a public face may use: the one error grammar is for everyone.
PRIVATE_FOR_ALL = frozenset({"_checks"})
#: Those that one public face may use besides: ``testing`` gives out the inline engine, and its contract of a lane
#: watches the front as the lanes see it.
PRIVATE_FOR = {
    "testing": frozenset({"_inline", "_lanes", "_registry", "_scheduler"}),
    #: A wait that Ctrl-C cannot break; what ``@cpu`` and the like said of a function that becomes a job; what a worker
    #: process must not do while it imports a module; by what the log names what a task works for.
    "jobs": frozenset({"_current", "_latch", "_lineage", "_options"}),
}


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a module of ours by another."""

    importer: str  #: dotted, below ``engine``; "" is the package itself
    imported: str
    line: int

    def __str__(self) -> str:
        return f"engine/{self.importer.replace('.', '/') or '__init__'}:{self.line} imports engine.{self.imported}"


def module_name(path: Path, root: Path) -> str:
    """Give the dotted name below ``root`` of the module in ``path``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def all_modules(root: Path) -> dict[str, Path]:
    """Give every module below ``root`` by its dotted name."""
    return {module_name(path, root): path for path in sorted(root.rglob("*.py"))}


def head(module: str) -> str:
    """Give the part of a dotted name that decides the layer."""
    return module.partition(".")[0]


def layer_of(module: str) -> int | None:
    """Give the layer of ``module``; None if nobody has said."""
    for layer, names in LAYERS.items():
        if head(module) in names:
            return layer
    is_private_module = head(module).startswith("_") and not head(module).startswith("__")
    return 4 if is_private_module else None


def running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk what runs: everything but the bodies of ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield other
                yield from running_nodes(other)
            continue
        yield node
        yield from running_nodes(node)


def imports_of(module: str, path: Path, modules: dict[str, Path]) -> Iterator[Import]:
    """Give every import of ours in ``module``, also those inside functions."""
    package = [*module.split(".")] if module else []
    if path.name != "__init__.py":
        package.pop()
    for node in running_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root, _, rest = alias.name.partition(".")
                if root == "engine":
                    yield Import(module, rest, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                base += node.module.split(".") if node.module else []
            elif node.module and head(node.module) == "engine":
                base = node.module.split(".")[1:]
            else:
                continue
            for alias in node.names:
                inner = ".".join([*base, alias.name])
                yield Import(module, inner if inner in modules else ".".join(base), node.lineno)


def top_level_lines(path: Path) -> frozenset[int]:
    """Give the lines of the imports that run when the module is imported, and so can close a circle."""
    inside = {
        node.lineno
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    return frozenset(range(1, len(path.read_text().splitlines()) + 1)) - inside


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Give the modules of one import circle in order, its first again at the end; empty if there is none."""
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        for other in sorted(graph.get(module, ())):
            if cycle := visit(other):
                return cycle
        path.pop()
        done.add(module)
        return []

    return next((cycle for module in sorted(graph) if (cycle := visit(module))), [])


def complaint(found: Import) -> str:
    """Say what is wrong with one import; empty if nothing is."""
    ours, theirs = head(found.importer), head(found.imported)
    if ours == theirs:
        return ""  # inside one package: only circles count
    if not ours:
        return ""  # the package itself gives out names of every layer
    if not theirs:
        public = layer_of(found.importer) == PUBLIC
        return "" if public else f"{found}: the package itself, which stands above it"
    below, above = layer_of(found.imported), layer_of(found.importer)
    if ours == "_worker" and theirs not in CHILD_SIDE:
        return f"{found}: a worker may import only {', '.join(sorted(CHILD_SIDE))}"
    allowed = PRIVATE_FOR_ALL | PRIVATE_FOR.get(ours, frozenset())
    if above == PUBLIC and theirs.startswith("_") and theirs not in allowed:
        return f"{found}: a public face may import public names only"
    if above is not None and below is not None and below > above:
        return f"{found}: upwards, from layer {above} to layer {below}"
    return ""


def find_complaints(root: Path) -> list[str]:
    """Give everything that is wrong with the imports of the package in ``root``."""
    modules = all_modules(root)
    complaints = [
        f"engine/{module.replace('.', '/')} has no layer: add {head(module)!r} to LAYERS in tests/unit/test_layers.py"
        for module in modules
        if module and layer_of(module) is None
    ]
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        at_import = top_level_lines(path)
        for found in imports_of(module, path, modules):
            if text := complaint(found):
                complaints.append(text)
            if found.line in at_import and found.imported in modules and module:
                graph.setdefault(module, set()).add(found.imported)
    if cycle := find_cycle(graph):
        complaints.append("imports go round: " + " -> ".join(f"engine.{module}" for module in cycle))
    return complaints


def test_imports_go_downwards_only() -> None:
    assert find_complaints(ENGINE) == []


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in ENGINE.rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


WRONG = {
    "upwards": ({"retry.py": "from . import _registry"}, "retry:1 imports engine._registry: upwards, from layer 1 to"),
    "upwards in a function": (
        {"retry.py": "def f():\n    from ._engine import Engine"},
        "retry:2 imports engine._engine",
    ),
    "absolute": ({"errors.py": "import engine.retry"}, "errors:1 imports engine.retry: upwards"),
    "from a subpackage": ({"_lanes/base.py": "from .. import task"}, "_lanes/base:1 imports engine.task: upwards"),
    "worker": ({"_worker/main.py": "from .._lanes import base"}, "a worker may import only"),
    "private": ({"manager.py": "from ._engine import Engine"}, "a public face may import public names only"),
    "private of another face": (
        {"manager.py": "from . import _registry", "testing.py": "from . import _registry"},
        "manager:1 imports engine._registry: a public face may import public names only",
    ),
    "package": ({"task.py": "from . import Engine"}, "the package itself"),
    "unknown": ({"fresh.py": ""}, "add 'fresh' to LAYERS in tests/unit/test_layers.py"),
    "circle": (
        {"_options.py": "from .retry import Retry", "retry.py": "from ._options import Options"},
        "imports go round: engine._options -> engine.retry -> engine._options",
    ),
}


@pytest.mark.parametrize(("files", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_import_is_found(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    for name in ("errors", "retry", "_registry", "_engine", "task", "_lanes/__init__", "_lanes/base", "__init__"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    complaints = find_complaints(tmp_path)
    assert len(complaints) == 1
    assert expected in complaints[0]


def test_what_is_right_is_not_found(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from ._engine import Engine",
        "errors.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .task import Task",
        "task.py": "from .errors import EngineError",
        "_engine.py": "from . import task\nfrom .errors import EngineError",
        "manager.py": "from engine import Engine\nfrom . import _checks, errors",
        "_checks.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert find_complaints(tmp_path) == []


# -- the map in engine/README.md --------------------------------------------------------------------------------------

README = (ENGINE / "README.md").read_text(encoding="utf-8")
TOP_LEVEL = sorted({head(module) for module in all_modules(ENGINE) if module})


@pytest.mark.parametrize("module", TOP_LEVEL)
def test_the_map_names_every_module_in_its_layer(module: str) -> None:
    file = f"`{module}.py`" if (ENGINE / f"{module}.py").exists() else f"`{module}/`"
    rows = re.findall(r"^\| (\d) [^|]+\| ([^|]+) \|", README, re.MULTILINE)
    assert [int(layer) for layer, files in rows if file in files.split()] == [layer_of(module)]


def test_every_file_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`([\w/.-]+(?:\.py|/))`", README)) | set(re.findall(r"design/[\w-]+\.md", README))
    inside_lanes = {f"{name}.py" for name in ("base", "loop", "threads", "processes", "portable")}  # of the row
    inside_lanes |= {"_process/", "_portable/"}
    missing = {
        name for name in named - inside_lanes if not any((root / name).exists() for root in (ENGINE, REPOSITORY))
    }
    assert missing == set()
