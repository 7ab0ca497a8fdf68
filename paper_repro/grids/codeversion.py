"""Which code a result depends on, as a hash.

Not the git commit: that changes with every line of documentation. For each kind of run the hash covers the modules that
its worker imports, and those that they import, and so on, also inside functions; of each the syntax tree without
docstrings, comments and layout; and the embedded model's weights. Modules that decide where a number is kept, shown
or computed, but not which number it is, are left out by name below. `sharpen paper verify` recomputes results, whatever
the hash says, and `--adopt` keeps results whose code changed where recomputing a sample gives the same numbers.
"""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

ROOT = Path(str(files("sharpen.objective"))).parent
ENTRY = {
    "train": ("paper_repro.work_train", "llm.run", "llm.evaluation_run"),
    "sample": ("paper_repro.work_sample", "llm.sampling_run"),
    "theory": ("paper_repro.work_theory",),
    "toy": ("paper_repro.work_toy",),
}
# Where numbers are kept, shown, sent or continued. What they keep is compared bit by bit by the tests of resuming.
NO_NUMBERS = frozenset(
    {
        *("objective.errors", "objective.runfolder", "objective.presets", "objective.files", "objective.lock"),
        *("objective.reading", "objective.parsing", "objective.settings", "objective.cluster", "objective.pages"),
        *("llm.checkpoint", "llm.metrics", "llm.interrupt", "llm.hub", "llm.targets", "llm.train_state", "llm.world"),
        *("llm.sharding", "llm.weights", "llm.memory", "llm.plan", "llm.recipes", "llm.models", "llm.readers"),
        *("llm.jsonl", "llm.recovery", "llm.setup", "llm.intervals", "llm.sampling.budget"),
        *(
            "llm.verify_pool",
            "llm.verify_worker",
            "llm.rollout.process",
            "llm.rollout.vllm_engine",
            "llm.rollout.loading",
            "llm.rollout.shared",
        ),
        *("toy.watch", "toy.spread", "paper_repro.store", "paper_repro.grid", "paper_repro.plan"),
    }
)
PACKAGES = ("objective", "theory", "toy", "llm", "paper_repro")
ARTEFACTS = {"train": ("llm/tiny/artifact/model.safetensors",), "sample": ("llm/tiny/artifact/model.safetensors",)}


@lru_cache(maxsize=8)
def code_version(kind: str) -> str:
    """Return 16 hexadecimal digits that change when the numbers of a kind of run may."""
    digest = hashlib.sha256()
    for name, file in sorted(modules_of(kind).items()):
        digest.update(f"{name}:{_meaning(file)}\n".encode())
    for artefact in ARTEFACTS.get(kind, ()):
        digest.update(hashlib.sha256((ROOT / artefact).read_bytes()).digest())
    return digest.hexdigest()[:16]


def modules_of(kind: str) -> dict[str, Path]:
    """Return the modules that the hash of a kind covers, by dotted name without ``sharpen.``."""
    found: dict[str, Path] = {}
    waiting = list(ENTRY[kind])
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if file is None or name in found or name in NO_NUMBERS:
            continue
        found[name] = file
        waiting += _imported(file)
    return found


def _file(name: str) -> Path | None:
    path = ROOT.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _imported(file: Path) -> list[str]:
    """Return the project's modules that a file imports, outside ``if TYPE_CHECKING``."""
    names: list[str] = []
    for node in _live_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    own = [name.removeprefix("sharpen.") for name in names if name.startswith("sharpen.")]
    return [name for name in own if name.split(".")[0] in PACKAGES]


def _live_nodes(tree: ast.AST) -> list[ast.AST]:
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        found.append(node)
        waiting += ast.iter_child_nodes(node)
    return found


def _meaning(file: Path) -> str:
    """Return a hash of a module without docstrings, comments and layout."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
