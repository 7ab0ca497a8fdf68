"""The hash of the code behind a result: it sees what decides a number, and not where that stands."""

from __future__ import annotations

import ast
import importlib
import shutil
from pathlib import Path

import pytest

from sharpen.paper_repro.grids import codeversion
from sharpen.paper_repro.grids.codeversion import ARTEFACTS, ENTRY, NO_NUMBERS, PACKAGES, ROOT, Code

KINDS = sorted(ENTRY)


def copied(root: Path) -> Path:
    """Return a copy of the checkout's packages, Python files only."""
    for package in PACKAGES:
        for file in (ROOT / package).resolve().rglob("*.py"):
            place = root / package / file.relative_to((ROOT / package).resolve())
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    return root


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copied(tmp_path / "tree")


def versions(root: Path, names: dict[str, str] | None = None) -> dict[str, str]:
    """Return the hash of every kind; ``names`` says what modules are called now."""
    names = names or {}
    moved = {new for old, new in names.items() if any(old.startswith(f"{room}.") for room in NO_NUMBERS)}
    code = Code(root, frozenset({names.get(name, name) for name in NO_NUMBERS} | moved))
    return {kind: code.version([names.get(entry, entry) for entry in ENTRY[kind]]) for kind in KINDS}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the hash of every kind, of a copy that nobody changes."""
    return versions(copied(tmp_path_factory.mktemp("unchanged") / "tree"))


class Rewritten(ast.NodeTransformer):
    """Imports, and strings that name modules, after a move."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def place(self, text: str) -> str:
        module, colon, rest = text.partition(":")
        short = module.removeprefix("sharpen.")
        return f"sharpen.{self.names[short]}{colon}{rest}" if short in self.names else text

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant(self.place(node.value)) if isinstance(node.value, str) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.ImportFrom]:
        found, stay = [], []
        for alias in node.names:
            moved = self.place(f"{node.module}.{alias.name}")
            if moved != f"{node.module}.{alias.name}":
                package, _, name = moved.rpartition(".")
                found.append(ast.ImportFrom(package, [ast.alias(name, alias.asname or alias.name)], 0))
            else:
                stay.append(alias)
        return found + ([ast.ImportFrom(self.place(node.module or ""), stay, 0)] if stay else [])


def move(root: Path, names: dict[str, str]) -> None:
    """Move modules, by old and new dotted name, and tell everyone who names them."""
    for file in root.rglob("*.py"):
        tree = Rewritten(names).visit(ast.parse(file.read_text()))
        file.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    for old, new in names.items():
        place = root.joinpath(*new.split(".")).with_suffix(".py")
        place.parent.mkdir(parents=True, exist_ok=True)
        (place.parent / "__init__.py").touch()
        root.joinpath(*old.split(".")).with_suffix(".py").rename(place)


def tree(root: Path, **texts: str) -> Code:
    """Return a made-up project: ``a__b="text"`` is the module a/b.py."""
    for name, text in texts.items():
        file = root.joinpath("toy", *name.split("__")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        for folder in {file.parent, root / "toy"}:
            (folder / "__init__.py").touch()
        file.write_text(text)
    return Code(root)


# --- the tables ----------------------------------------------------------------------------------------------------


def test_every_name_in_the_tables_exists() -> None:
    code = Code(ROOT)
    names = {*NO_NUMBERS, *(name for entries in ENTRY.values() for name in entries)}
    assert [name for name in sorted(names) if not code.has(name)] == []
    assert [glob for globs in ARTEFACTS.values() for glob in globs if not list(ROOT.glob(glob))] == []


def test_the_hash_covers_what_computes_and_not_what_shows() -> None:
    train, theory = codeversion.modules_of("train"), codeversion.modules_of("theory")
    assert {"llm.training.trainer", "llm.learners.parts.loss", "llm.learners.parts.advantage"} <= train.keys()
    assert {"objective.functional", "llm.tasks.verification.verify", "paper_repro.work.train"} <= train.keys()
    assert {"theory.optima.optimum", "theory.optima.sensitivity", "paper_repro.work.theory"} <= theory.keys()
    assert not any(name.startswith(("cli", "figures")) for name in (*train, *theory))
    assert not {"llm.training.checkpoint", "llm.training.metrics"} & train.keys()
    assert not any(name.startswith("toy.") for name in (*train, *theory))


@pytest.mark.parametrize(
    ("kind", "registry"),
    [
        ("train", "sharpen.llm.learners.parts.registry:LEARNERS"),
        ("sample", "sharpen.llm.samplers.registry:SAMPLERS"),
        ("train", "sharpen.llm.rewards.registry:REWARDS"),
        ("toy", "sharpen.toy.learners.registry:LEARNERS"),
    ],
)
def test_the_hash_covers_every_built_in_part(kind: str, registry: str) -> None:
    """Parts are loaded by name, so no import leads to them."""
    module, _, name = registry.partition(":")
    parts = getattr(importlib.import_module(module), name)._parts
    covered = codeversion.modules_of(kind)
    places = [part.partition(":")[0] if isinstance(part, str) else part.__module__ for part in parts.values()]
    modules = {place.removeprefix("sharpen.") for place in places}
    assert modules
    assert modules - covered.keys() - NO_NUMBERS == set()


# --- moves ---------------------------------------------------------------------------------------------------------


def test_every_module_may_move_and_be_renamed_at_once(copy: Path, before: dict[str, str]) -> None:
    code = Code(copy, NO_NUMBERS)
    covered = {name for kind in KINDS for name in code.covered(ENTRY[kind])}
    movable = sorted(name for name in covered if code.file(name).name != "__init__.py")
    names = {name: f"{name.split('.')[0]}.moved.m{index:03}" for index, name in enumerate(reversed(movable))}
    assert len(names) > 100
    move(copy, names)
    assert versions(copy, names) == before


@pytest.mark.parametrize(
    ("name", "old", "new", "kinds"),
    [
        ("theory.optima.optimum", "import ", "import ", set()),
        ("llm.training.trainer", "def ", "def other_", {"train"}),
        ("llm.samplers.power", "def ", "def other_", {"sample", "train"}),
        ("llm.learners.algorithms.rloo", "return ", "return 2 * ", {"sample", "train"}),
        ("objective.functional", "def ", "def other_", {"sample", "theory", "toy", "train"}),
        ("paper_repro.work.theory", "0.45, 0.05", "0.44, 0.06", {"theory", "toy"}),
        ("llm.tasks.verification.answer_text", "def ", "def other_", {"sample", "train"}),
    ],
)
def test_a_change_is_seen_where_it_counts(
    copy: Path, before: dict[str, str], name: str, old: str, new: str, kinds: set[str]
) -> None:
    file = copy.joinpath(*name.split(".")).with_suffix(".py")
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    after = versions(copy)
    assert {kind for kind in KINDS if after[kind] != before[kind]} == kinds


# --- what counts as a change, on a made-up project -----------------------------------------------------------------

USER = "from sharpen.toy.rooms.lib import f\n\ndef g(x):\n    return f(x)\n"


@pytest.mark.parametrize(
    ("user", "lib", "same"),
    [
        ('"""Doc."""\n# comment\n' + USER, '"""Doc."""\ndef f(x):\n    "Doc."\n    return (x + 1)\n', True),
        (USER, "def f(x):\n    return x + 2\n", False),
        (USER.replace("f(x)", "f(x, 1)"), "def f(x):\n    return x + 1\n", False),
        (USER.replace("import f", "import h as f"), "def f(x):\n    return x + 1\n", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sharpen.toy.user\n" + USER, "", False),
    ],
)
def test_meaning_counts_and_layout_does_not(tmp_path: Path, user: str, lib: str, same: bool) -> None:
    first = tree(tmp_path / "1", user=USER, rooms__lib="def f(x):\n    return x + 1\n").version(["toy.user"])
    second = tree(tmp_path / "2", user=user, rooms__lib=lib or "def f(x):\n    return x + 1\n").version(["toy.user"])
    assert (first == second) is same


def test_imports_for_type_checkers_do_not_count(tmp_path: Path) -> None:
    only = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sharpen.toy.rooms.lib import {}\n"
    lib = "def f(x):\n    return x + {}\n"
    first = tree(tmp_path / "1", user=only.format("f"), rooms__lib=lib.format(1)).version(["toy.user"])
    assert first == tree(tmp_path / "2", user=only.format("g"), rooms__lib=lib.format(2)).version(["toy.user"])


@pytest.mark.parametrize(
    "passes_on",
    [
        "from sharpen.toy.rooms.lib import f\n__all__ = ['f']\n",
        "from typing import TYPE_CHECKING\nfrom sharpen.objective import lazy\n"
        "if TYPE_CHECKING:\n    from sharpen.toy.rooms.lib import f as f\n"
        "__getattr__, __dir__, __all__ = lazy.exports(__name__, {'f': 'sharpen.toy.rooms.lib:f'})\n",
    ],
)
@pytest.mark.parametrize(
    "user",
    [
        "from sharpen.toy.rooms import f\n\n\ndef g(x):\n    return f(x)\n",
        "from sharpen.toy import rooms\nrooms.f(1)\n",
    ],
)
def test_packages_that_pass_names_on_are_looked_through(tmp_path: Path, passes_on: str, user: str) -> None:
    """A constant behind the facade counts; another name in the facade does not."""
    found = []
    for constant, more in ((1, ""), (1, "\nfrom sharpen.toy.rooms.lib import h\n"), (2, "")):
        root = tmp_path / f"{constant}{len(more)}"
        code = tree(root, user=user, rooms__lib=f"def f(x):\n    return x + {constant}\ndef h(): ...\n")
        (root / "toy" / "rooms" / "__init__.py").write_text(passes_on + more)
        found.append(code.version(["toy.user"]))
    assert found[0] == found[1] != found[2]


def test_parts_that_a_string_names_count_and_may_move(tmp_path: Path) -> None:
    """A registry names a part, and the part imports from the registry's file: a circle that must end."""
    registry = "class Base: ...\nPARTS.register('mine', 'sharpen.toy.{}:Mine')\n"
    part = "from sharpen.toy.registry import Base\n\n\nclass Mine(Base):\n    rate = {}\n"
    user = "from sharpen.toy.registry import PARTS\n"
    first = tree(tmp_path / "1", user=user, registry=registry.format("mine"), mine=part.format(1))
    moved = tree(tmp_path / "2", user=user, registry=registry.format("rooms.part"), rooms__part=part.format(1))
    other = tree(tmp_path / "3", user=user, registry=registry.format("mine"), mine=part.format(2))
    found = [code.version(["toy.user"]) for code in (first, moved, other)]
    assert found[0] == found[1] != found[2]


def test_two_imports_may_not_change_places(tmp_path: Path) -> None:
    user = "from sharpen.toy.a import f\nfrom sharpen.toy.b import g\nf(g(1))\n"
    swapped = "from sharpen.toy.b import g as f\nfrom sharpen.toy.a import f as g\nf(g(1))\n"
    files = {"a": "def f(x):\n    return x + 1\n", "b": "def g(x):\n    return 2 * x\n"}
    first = tree(tmp_path / "1", user=user, **files).version(["toy.user"])
    assert first != tree(tmp_path / "2", user=swapped, **files).version(["toy.user"])
