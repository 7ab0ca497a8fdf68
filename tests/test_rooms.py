"""Which room may import which: folders of Python files, from the bottom up, and no circle between files.

Imports inside functions count; those under ``if TYPE_CHECKING`` do not run, and do not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("objective", "theory", "toy", "llm", "figures", "paper_repro", "cli")
LONGEST = 14  # Python files in a folder
# Within a package: what each room may import beside itself. What lies between packages, tests/test_layout.py says.
# A package's own __init__ re-exports what users may rely on, and errors has no room: every other one raises them.
MAY_IMPORT: dict[str, set[str]] = {
    "objective": {"objective/storage"},
    "objective/storage": set(),
    "theory/core": set(),
    "theory/optima": {"theory/core"},
    "theory/instability": {"theory/core", "theory/optima"},
    "theory/estimators": {"theory/core"},
    "theory/sequences": {"theory/core"},
    "theory/audit": {"theory/core"},
    "theory/exactness": {"theory/core"},
    "theory/forecast": {"theory/core", "theory/audit", "theory/optima"},
    "theory/proofs": {"theory/core"},
    "theory/proofs/numbers": {
        *("theory/core", "theory/optima", "theory/estimators", "theory/instability", "theory/sequences"),
        *("theory/audit", "theory/proofs"),
    },
    "theory/proofs/theorems": {
        *("theory/core", "theory/optima", "theory/instability", "theory/sequences", "theory/audit"),
        *("theory/proofs", "theory/proofs/numbers"),
    },
    "theory/proofs/theorems/family": {
        *("theory/core", "theory/optima", "theory/instability", "theory/proofs", "theory/proofs/numbers"),
    },
    "theory/proofs/theorems/optimisers": {
        *("theory/proofs", "theory/proofs/numbers", "theory/proofs/theorems"),
    },
    "toy/problems": set(),
    "toy/learners/parts": {"toy/problems"},
    "toy/learners/exact": {"toy/problems", "toy/learners/parts"},
    "toy/learners/sampled": {"toy/learners/parts"},
    "toy/learners/success": {"toy/learners/parts"},
    "toy/learners/matching": {"toy/learners/parts"},
    "toy/learners/entropy": {"toy/learners/parts"},
    "toy/learners": {
        *("toy/learners/parts", "toy/learners/exact", "toy/learners/sampled", "toy/learners/success"),
        *("toy/learners/matching", "toy/learners/entropy"),
    },
    "toy/dynamics": {"toy/problems", "toy/learners", "toy/learners/parts"},
    "toy/simulation": {"toy/problems", "toy/learners", "toy/learners/parts", "toy/dynamics"},
    "toy/sweeps": {"toy/problems", "toy/learners/parts", "toy/dynamics"},
    "toy/studies": {"toy/problems", "toy/learners", "toy/learners/parts", "toy/dynamics", "toy/sweeps"},
    "llm/common": set(),
    "llm/models": {"llm/common"},
    "llm/tasks/prompting": set(),
    "llm/tasks/verification": set(),
    "llm/tasks/answers": {"llm/tasks/verification"},
    "llm/tasks": {"llm/tasks/answers", "llm/tasks/prompting", "llm/tasks/verification", "llm/models"},
    "llm/tasks/dial": {"llm/tasks"},
    "llm/tasks/words": {"llm/common", "llm/tasks"},
    "llm/tasks/gym": {"llm/common", "llm/tasks", "llm/tasks/answers", "llm/tasks/verification"},
    "llm/rewards": {"llm/tasks", "llm/tasks/answers", "llm/tasks/verification"},
    "llm/samplers": set(),
    "llm/trackers": set(),
    "llm/learners/parts": set(),
    "llm/learners/algorithms": {"llm/learners/parts"},
    "llm/learners/algorithms/success": {"llm/learners/parts"},
    "llm/learners/algorithms/matching": {"llm/learners/parts"},
    "llm/learners/algorithms/entropy": {"llm/learners/parts"},
    "llm/configs": {
        *("llm/learners/parts", "llm/models", "llm/rewards", "llm/samplers", "llm/tasks", "llm/trackers"),
    },
    "llm/distributed": {"llm/configs", "llm/models"},
    "llm/rollout": {"llm/common", "llm/distributed", "llm/models"},
    "llm/preflight": {"llm/configs", "llm/distributed", "llm/models", "llm/rollout", "llm/tasks", "llm/trackers"},
    "llm/learners": {"llm/learners/parts", "llm/models", "llm/rollout"},
    "llm/passes": {
        *("llm/configs", "llm/distributed", "llm/learners", "llm/learners/parts", "llm/models", "llm/rollout"),
    },
    "llm/evaluation": {
        *("llm/common", "llm/configs", "llm/distributed", "llm/learners", "llm/models", "llm/preflight"),
        *("llm/rewards", "llm/rollout", "llm/tasks", "llm/tasks/verification"),
    },
    "llm/sampling": {
        *("llm/common", "llm/configs", "llm/evaluation", "llm/models", "llm/preflight", "llm/rollout", "llm/samplers"),
        *("llm/tasks", "llm/tasks/answers", "llm/tasks/verification"),
    },
    "llm/outcomes": {
        *("llm/common", "llm/configs", "llm/models", "llm/preflight", "llm/rollout", "llm/tasks"),
        *("llm/tasks/answers", "llm/tasks/verification"),
    },
    "llm/exactness": {
        *("llm/configs", "llm/models", "llm/outcomes", "llm/preflight", "llm/rollout", "llm/samplers", "llm/sampling"),
        "llm/tasks",
    },
    "llm/audit": {
        *("llm/common", "llm/configs", "llm/evaluation", "llm/models", "llm/preflight", "llm/rollout", "llm/tasks"),
        *("llm/tasks/answers", "llm/tasks/verification"),
    },
    "llm/training": {
        *("llm/common", "llm/configs", "llm/distributed", "llm/evaluation", "llm/learners", "llm/learners/parts"),
        *("llm/models", "llm/passes", "llm/preflight", "llm/rewards", "llm/rollout", "llm/tasks"),
        *("llm/tasks/verification", "llm/trackers"),
    },
    "llm/export": {"llm/configs", "llm/models", "llm/training"},
    "llm/api": {
        *("llm/common", "llm/configs", "llm/evaluation", "llm/learners/parts", "llm/models", "llm/rewards"),
        *("llm/samplers", "llm/sampling", "llm/tasks", "llm/tasks/verification", "llm/training"),
    },
    "llm/tiny": {
        *("llm/common", "llm/models", "llm/rollout", "llm/tasks", "llm/tasks/dial", "llm/tasks/verification"),
        "llm/training",
    },
    "figures": set(),
    "figures/theory": {"figures"},
    "figures/toy": {"figures", "figures/theory"},
    "figures/llm": {"figures", "figures/toy"},
    "figures/paper": {"figures"},
    "paper_repro/grids": set(),
    "paper_repro/intervals": set(),
    "paper_repro/analysis": {"paper_repro/grids", "paper_repro/intervals"},
    "paper_repro/work": {"paper_repro/grids"},
    "paper_repro/report": {"paper_repro/grids", "paper_repro/intervals", "paper_repro/analysis"},
    "cli/shared": set(),
    "cli/schemas": set(),
    "cli/theory": {"cli/shared"},
    "cli/toy": {"cli/shared", "cli/theory"},
    "cli/llm": {"cli/shared"},
    "cli/paper": {"cli/shared"},
    "cli/analysis": {"cli/shared", "cli/llm"},
    "cli": {"cli/shared", "cli/schemas", "cli/theory", "cli/toy", "cli/llm", "cli/analysis", "cli/paper"},
}
FACADES = {"theory", "toy", "llm"}  # their __init__ names what is public, each name by the module it is in
NO_ROOM = {"objective.errors"}


def modules(root: Path) -> dict[str, Path]:
    """Return every module by its dotted name without ``sharpen.``."""
    files = [file for package in PACKAGES for file in (root / package).rglob("*.py")]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run: not those under ``if TYPE_CHECKING``."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def imported(name: str, known: dict[str, Path]) -> set[str]:
    """Return the modules that a module imports."""
    found = set()
    for node in running(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("sharpen."):
            package = node.module.removeprefix("sharpen.")
            found |= {each if (each := f"{package}.{alias.name}") in known else package for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("sharpen.") for alias in node.names if alias.name.startswith("sharpen.")}
    return found - {name}


def room(file: Path, root: Path) -> str:
    return file.relative_to(root).parent.as_posix()


def forbidden(root: Path) -> set[tuple[str, str]]:
    """Return each pair of modules of one package of which the first imports the second and should not."""
    known = modules(root)
    wrong = set()
    for name, file in known.items():
        here = room(file, root)
        for other in imported(name, known) & known.keys() - NO_ROOM:
            there = room(known[other], root)
            same_package = name.split(".")[0] == other.split(".")[0]
            if same_package and here not in FACADES and there != here and there not in MAY_IMPORT[here]:
                wrong.add((name, other))
    return wrong


def circles(root: Path) -> list[set[str]]:
    known = modules(root)
    graph = nx.DiGraph([(name, other) for name in known for other in imported(name, known)])
    return [part for part in nx.strongly_connected_components(graph) if len(part) > 1]


def test_rooms_import_only_what_they_may() -> None:
    assert forbidden(ROOT) == set()


def test_no_circle_between_files() -> None:
    assert circles(ROOT) == []


def test_the_table_has_no_circle_and_names_every_room() -> None:
    assert nx.is_directed_acyclic_graph(nx.DiGraph([(a, b) for a, others in MAY_IMPORT.items() for b in others]))
    rooms = {room(file, ROOT) for file in modules(ROOT).values()}
    assert rooms - FACADES - {"paper_repro"} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    "line", ["from sharpen.llm.training.run import train", "def f():\n    import sharpen.llm.tiny"]
)
def test_the_check_can_fail(line: str, tmp_path: Path) -> None:
    for name, text in {"llm/tasks/new.py": line, "llm/training/run.py": "", "llm/tiny/__init__.py": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert len(forbidden(tmp_path)) == 1


def test_a_circle_is_seen(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        file = tmp_path / "toy" / "dynamics" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"def f():\n    from sharpen.toy.dynamics.{other} import f")
    assert circles(tmp_path) == [{"toy.dynamics.a", "toy.dynamics.b"}]


def test_no_folder_is_too_long() -> None:
    files = [file for top in (*PACKAGES, "tests", "benchmarks") for file in (ROOT / top).rglob("*.py")]
    for folder in {file.parent for file in files}:
        assert sum(file.parent == folder for file in files) <= LONGEST, folder
