"""Which code a result depends on, as a hash that does not see where the code stands.

Not the git commit: that changes with every line of documentation. For each kind of run the hash covers the modules that
its worker imports, and those that they import, and so on, also inside functions, under ``if TYPE_CHECKING`` not; and
those that a string such as ``sharpen.llm.rewards.text:length`` names, as registries of parts do. Of each module it
takes the syntax tree without docstrings, comments, layout and the project's own imports. Where a module refers to
another, the other's own hash takes the place of its name, so that a module can be moved or renamed and every hash
stays. Package files that only pass names on are looked through. Modules that decide where a number is kept, shown or
computed, but not which number it is, are left out by name below.

`sharpen paper verify` recomputes results, whatever the hash says, and `--adopt` keeps results whose code changed where
recomputing a sample gives the same numbers.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

ROOT = Path(str(files("sharpen.objective"))).parent
ENTRY = {
    "train": ("paper_repro.work.train",),
    "sample": ("paper_repro.work.sample",),
    "theory": ("paper_repro.work.theory",),
    "toy": ("paper_repro.work.toy",),
}
# Where numbers are kept, shown, sent or continued; a room stands for all its modules. What they keep is compared bit by
# bit by the tests of resuming.
NO_NUMBERS = frozenset(
    {
        *("objective.errors", "objective.presets", "objective.settings", "objective.cluster", "objective.pages"),
        *("objective.storage", "objective.registry"),
        *("llm.common.interrupt", "llm.common.jsonl", "llm.configs.recipes"),
        *("llm.distributed.memory", "llm.distributed.plan", "llm.distributed.sharding", "llm.distributed.world"),
        *("llm.evaluation.intervals", "llm.models.hub", "llm.models.registry", "llm.models.weights"),
        *("llm.rollout.loading", "llm.rollout.process", "llm.rollout.recovery", "llm.rollout.shared"),
        *("llm.rollout.vllm_engine", "llm.sampling.budget", "llm.tasks.readers", "llm.trackers"),
        *("llm.tasks.verification.pool", "llm.tasks.verification.worker"),
        *("llm.training.checkpoint", "llm.training.metrics", "llm.training.setup", "llm.training.state"),
        *("llm.configs.targets", "toy.sweeps.spread", "toy.simulation.watch"),
        *("paper_repro.grids.grid", "paper_repro.grids.plan", "paper_repro.grids.store"),
    }
)
PACKAGES = ("objective", "theory", "toy", "llm", "paper_repro")
_MODEL = ("llm/tiny/artifact/model.safetensors", "llm/tiny/artifact/config.json", "llm/tiny/artifact/tokenizer.json")
_DATA = ("llm/tasks/prompts/*.txt", "llm/tasks/words/lists/*.txt")
ARTEFACTS: dict[str, tuple[str, ...]] = dict.fromkeys(("train", "sample"), (*_MODEL, *_DATA))
PLACE = re.compile(r"sharpen((?:\.\w+)+)(?::([\w.]+))?")


@lru_cache(maxsize=8)
def code_version(kind: str) -> str:
    """Return 16 hexadecimal digits that change when the numbers of a kind of run may."""
    digest = hashlib.sha256(_here().version(ENTRY[kind]).encode())
    for artefact in ARTEFACTS.get(kind, ()):
        for file in sorted(ROOT.glob(artefact)):
            digest.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def _here() -> Code:
    """Return this program's modules; the kinds of runs share most of them."""
    return Code(ROOT, NO_NUMBERS)


def modules_of(kind: str) -> dict[str, Path]:
    """Return the modules that the hash of a kind covers, by dotted name without ``sharpen.``."""
    code = _here()
    return {name: code.file(name) for name in code.covered(ENTRY[kind])}


@dataclass(frozen=True)
class Reference:
    """What a module says about another one.

    Args:
        label: What it takes from there, and what it calls it.
        module: The dotted name; None for what the hash does not look into.
    """

    label: str
    module: str | None


@dataclass(frozen=True)
class Meaning:
    """A module without its place.

    Args:
        tree: Hash of the syntax tree, with a hole for each use of another module.
        holes: What fills them, in order.
        imports: What it imports, in no order.
    """

    tree: str
    holes: tuple[Reference, ...]
    imports: frozenset[Reference]


class Code:
    """The modules below a folder, by dotted names without ``sharpen.``.

    Args:
        root: The folder of ``sharpen``'s packages.
        left_out: Modules and rooms that decide no number.
    """

    def __init__(self, root: Path, left_out: frozenset[str] = frozenset()) -> None:
        self._root, self._left_out = root, left_out
        self._meanings: dict[str, Meaning] = {}
        self._exports: dict[str, dict[str, str] | None] = {}

    def version(self, entries: Iterable[str]) -> str:
        """Return the hash of modules with all that they depend on, in no order.

        A module's hash is of its own meaning and of the hashes of those it refers to. Registries close circles (a
        learner imports what its registry declares, the registry names the learner), so hashes are refined in as many
        rounds as there are modules, each from those of the round before: colour refinement of the graph.
        """
        entries = list(entries)
        known = self.covered(entries)
        hashes = {name: meaning.tree for name, meaning in known.items()}
        for _ in known:
            hashes = {name: _refined(meaning, hashes) for name, meaning in known.items()}
        return _hash(sorted(hashes[name] for name in entries))

    def covered(self, entries: Iterable[str]) -> dict[str, Meaning]:
        """Return the modules that these depend on, themselves included."""
        found: dict[str, Meaning] = {}
        waiting = list(entries)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = meaning = self.meaning(name)
                waiting += [one.module for one in (*meaning.holes, *meaning.imports) if one.module is not None]
        return found

    def meaning(self, name: str) -> Meaning:
        """Return what a module means."""
        if name not in self._meanings:
            tree = ast.parse(self.file(name).read_text(encoding="utf-8"))
            holes = _Holes(self, tree)
            skeleton = _hash([ast.dump(holes.visit(tree))])
            self._meanings[name] = Meaning(skeleton, tuple(holes.holes), frozenset(holes.imports))
        return self._meanings[name]

    def file(self, name: str) -> Path:
        """Return a module's file.

        Raises:
            KeyError: there is no such module.
        """
        path = self._root.joinpath(*name.split(".")) if name else self._root
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
        raise KeyError(name)

    def has(self, name: str) -> bool:
        """Return whether there is such a module; every folder of the checkout is a package."""
        try:
            return bool(self.file(name))
        except KeyError:
            return False

    def find(self, module: str, names: list[str]) -> Reference:
        """Return what ``module.name.name`` refers to, looked for through packages that only pass names on."""
        while names:
            exports, inner = self.exports(module), f"{module}.{names[0]}".lstrip(".")
            if exports is not None and names[0] in exports:
                place, _, path = exports[names[0]].partition(":")
                module, names = place, [*filter(None, path.split(".")), *names[1:]]
            elif self.has(inner):
                module, names = inner, names[1:]
            else:
                break
        return Reference(".".join(names), module if self._counts(module) else None)

    def exports(self, name: str) -> dict[str, str] | None:
        """Return the names that a package passes on, as ``module:object``; None if it is more than that."""
        if name not in self._exports:
            file = self.file(name) if self.has(name) else None
            self._exports[name] = _exports(file) if file is not None and file.name == "__init__.py" else None
        return self._exports[name]

    def _counts(self, name: str) -> bool:
        parts = name.split(".")
        outside = parts[0] not in PACKAGES or not self.has(name)
        left_out = any(".".join(parts[:end]) in self._left_out for end in range(1, len(parts) + 1))
        return not (outside or left_out or self.exports(name) is not None)


class _Holes(ast.NodeTransformer):
    """Takes the project's own names out of a module's syntax tree."""

    def __init__(self, code: Code, tree: ast.Module) -> None:
        self._code = code
        self.holes: list[Reference] = []
        self.imports: set[Reference] = set()
        self._modules: dict[str, str] = {}  # what the module calls other modules
        for node in _live(tree):
            if isinstance(node, ast.Import):
                self._import(node)
            elif isinstance(node, ast.ImportFrom) and _is_own(node.module):
                self._import_from(node)

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            if _is_own(alias.name):
                module = _short(alias.name)
                self._modules[alias.asname or "sharpen"] = module if alias.asname else ""
                self.imports.add(self._code.find(module, []))

    def _import_from(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            found = self._code.find(_short(node.module or ""), [alias.name])
            if found.label:
                self.imports.add(Reference(f"{alias.asname or alias.name}={found.label}", found.module))
            else:
                self._modules[alias.asname or alias.name] = f"{_short(node.module or '')}.{alias.name}".lstrip(".")
                self.imports.add(found)

    def _hole(self, reference: Reference) -> ast.Name:
        self.holes.append(reference)
        return ast.Name("", ast.Load())

    def visit_Import(self, node: ast.Import) -> ast.Import | None:
        node.names = [alias for alias in node.names if not _is_own(alias.name)]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if _is_own(node.module) else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.AST]:
        if _only_types(node):
            return [self.visit(other) for other in node.orelse]
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        module = self._modules.get(node.id)
        return node if module is None else self._hole(self._code.find(module, []))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        names: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            names.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in self._modules:
            return self._hole(self._code.find(self._modules[inner.id], names))
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        match = PLACE.fullmatch(node.value) if isinstance(node.value, str) else None
        if match is None or not self._code.has(module := match[1].removeprefix(".")):
            return node
        return self._hole(self._code.find(module, match[2].split(".") if match[2] else []))

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop docstrings, and every other string that stands alone."""
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else self.generic_visit(node)


def _exports(file: Path) -> dict[str, str] | None:
    """Return what a package file passes on: by imports, or lazily, and then the imports for type checkers list it."""
    found: dict[str, str] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        for one in node.body if isinstance(node, ast.If) and _only_types(node) else [node]:
            if isinstance(one, ast.ImportFrom) and _is_own(one.module):
                module = _short(one.module or "")
                found |= {alias.asname or alias.name: f"{module}:{alias.name}" for alias in one.names}
        if not _passes_on(node):
            return None
    return found


def _passes_on(node: ast.stmt) -> bool:
    """Return whether a statement of a package file is a docstring, an import, a constant or ``lazy.exports``."""
    if isinstance(node, ast.If):
        return _only_types(node) and not node.orelse
    if isinstance(node, ast.Assign | ast.Expr):
        called = [ast.unparse(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)]
        return called in ([], ["lazy.exports"])
    return isinstance(node, ast.Import | ast.ImportFrom)


def _live(tree: ast.AST) -> Iterable[ast.AST]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _only_types(node):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _only_types(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _is_own(module: str | None) -> bool:
    return module is not None and (module == "sharpen" or module.startswith("sharpen."))


def _short(name: str) -> str:
    return name.removeprefix("sharpen").removeprefix(".")


def _refined(meaning: Meaning, hashes: dict[str, str]) -> str:
    def filled(reference: Reference) -> str:
        return f"{reference.label}@{hashes[reference.module] if reference.module is not None else ''}"

    holes = [filled(one) for one in meaning.holes]
    return _hash([meaning.tree, *holes, "", *sorted({filled(one) for one in meaning.imports})])


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
