"""Who may import whom, and that the packaging knows every folder."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("objective", "theory", "toy", "llm", "figures", "paper_repro", "cli")
MAY_IMPORT = {
    "objective": set(),
    "theory": {"objective"},
    "toy": {"objective", "theory"},
    "llm": {"objective"},
    "figures": {"objective", "theory", "toy", "llm"},
    "paper_repro": {"objective", "theory", "toy", "llm", "figures"},
    "cli": {"objective", "theory", "toy", "llm", "figures", "paper_repro"},
}

NEVER = {
    "objective": {"jax", "torch", "transformers", "vllm"},
    "theory": {"torch", "transformers", "vllm"},
    "toy": {"torch", "transformers", "vllm"},
    "llm": {"jax", "jaxlib", "optax"},
    "figures": {"torch", "vllm", "jax"},
    "cli": {"torch", "vllm", "jax"},
    "paper_repro": {"vllm"},
}
# stop_gradient() meets a JAX array only after its caller imported jax; the import is inside the function.
ALLOWED_LAZY = {("objective/functional.py", "jax")}
HEAVY = {"numpy", "scipy", "sympy", "jax", "torch", "transformers", "matplotlib", "seaborn", "pydantic", "yaml", "vllm"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(file: Path, module_level: bool = False) -> set[str]:
    """Return every dotted name that the file imports, also inside functions unless ``module_level``."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if module_level else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def forbidden(package: str, file: Path) -> set[str]:
    found = set()
    for name in imports(file):
        head, _, rest = name.partition(".")
        if head in PACKAGES:
            found.add(name)  # a bare `import theory` works only by accident of the working directory
        elif head == "sharpen" and rest.partition(".")[0] not in MAY_IMPORT[package] | {package}:
            found.add(name)
        elif head in NEVER[package] and (str(file.relative_to(ROOT)), head) not in ALLOWED_LAZY:
            found.add(name)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_one_way(package: str) -> None:
    files = sources(package)
    assert files
    assert {str(file): names for file in files if (names := forbidden(package, file))} == {}


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("objective", "from sharpen.theory import optimum"),
        ("theory", "import torch"),
        ("toy", "from sharpen import llm"),
        ("llm", "def f():\n    import jax.numpy"),
        ("llm", "from sharpen.toy.dynamics.engine import run"),
        ("cli", "import theory"),
        ("figures", "from sharpen.cli.main import main"),
    ],
)
def test_the_check_can_fail(package: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / package / "module.py"
    file.parent.mkdir()
    file.write_text(line)
    assert forbidden(package, file)


def test_only_the_rollout_package_touches_vllm() -> None:
    files = [file for package in PACKAGES for file in sources(package)]
    touching = {
        file.relative_to(ROOT).parts[:2] for file in files if any(n.partition(".")[0] == "vllm" for n in imports(file))
    }
    assert touching <= {("llm", "rollout")}


def test_command_modules_import_nothing_heavy_at_module_level() -> None:
    for file in sources("cli"):
        if file.parent.name == "schemas":  # pydantic models, which no command imports before it runs
            continue
        assert not any(name.startswith("sharpen.cli.schemas") for name in imports(file, module_level=True)), file
        heads = {name.partition(".")[0] for name in imports(file, module_level=True)}
        assert not heads & HEAVY, file
        assert not any(n.startswith("sharpen.") and not n.startswith("sharpen.cli") for n in imports(file, True)), file


def test_toy_imports_the_slow_parts_of_scipy_where_it_uses_them() -> None:
    """They take half of the time until a toy command computes, and few commands need them."""
    slow = ("scipy.stats", "scipy.optimize")
    files = [*sources("toy"), *sources("theory/sequences")]  # the toy's tasks import the sequences
    assert {str(file) for file in files if any(name.startswith(slow) for name in imports(file, True))} == set()
    everywhere = {name for file in files for name in imports(file) if name.startswith(slow)}
    assert {"scipy.stats.binom", "scipy.optimize.brentq"} <= everywhere


def test_the_package_is_a_link_to_each_folder() -> None:
    package = ROOT / ".pyright" / "sharpen"
    links = {path.name: path.resolve() for path in package.iterdir() if path.is_symlink()}
    assert links == {name: ROOT / name for name in PACKAGES}
    assert {path.name for path in package.iterdir()} - links.keys() - {"__pycache__"} == {"__init__.py", "py.typed"}
    for name in PACKAGES:  # a folder without an __init__.py would be left out of the wheel
        for file in sources(name):
            assert (file.parent / "__init__.py").is_file(), file


def test_the_top_level_is_the_agreed_one() -> None:
    visible = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    generated = {"runs", "build", "dist"} | {path.name for path in ROOT.glob("*.egg-info")}
    files = {"pyproject.toml", "README.md", "Makefile", "LICENSE", "CITATION.cff"} | {
        "constraints.txt",
        "constraints-gpu.txt",
        "mkdocs.yml",
    }
    assert visible - generated == {*PACKAGES, "tests", "benchmarks", "docs", "examples"} | files


def test_no_file_is_too_long() -> None:
    for package in PACKAGES:
        for file in sources(package):
            assert len(file.read_text(encoding="utf-8").splitlines()) <= 400, file
