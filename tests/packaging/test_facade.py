"""`import sharpen`: from an editable install, from a wheel, and for a type checker in a user's own folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "jax", "transformers", "scipy", "sympy", "pandas", "matplotlib", "numpy")
FIRST = f"""
import json, sys
import sharpen
text = str(sharpen.Objective(alpha=2))
print(json.dumps([sharpen.__version__, text, sharpen.__file__, [m for m in {HEAVY!r} if m in sys.modules]]))
"""
USER = '''
"""A user's own program: public names only."""

import numpy as np

import sharpen

objective: sharpen.Objective = sharpen.Objective(alpha=2)
problem = sharpen.theory.Problem(np.array([0.5, 0.3, 0.2]), [0.0, 1.0, 0.0], [1, 1, 1])
best = sharpen.theory.optimum(objective, problem)
value: float = best.expected_reward
table = sharpen.theory.response(objective, problem, "alpha", [1.0, 2.0]).frame()
runs = sharpen.toy.simulate
version: str = sharpen.__version__
'''


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_first_line_of_a_notebook_imports_nothing_heavy(tmp_path: Path) -> None:
    version, text, file, heavy = json.loads(run(sys.executable, "-c", FIRST, cwd=tmp_path))
    assert version.startswith("0.")
    assert "alpha=2.0" in text
    assert Path(file) == ROOT / ".pyright" / "sharpen" / "__init__.py"
    assert heavy == []


@pytest.mark.slow
def test_an_editable_install_is_one_line_that_any_tool_can_read(tmp_path: Path) -> None:
    """PEP 660 allows import hooks, which no type checker follows; a .pth file is followed by all."""
    copy = tmp_path / "checkout"
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if name.endswith((".py", ".toml", ".typed", "README.md", "LICENSE")) or (ROOT / name).is_symlink():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target, follow_symlinks=False)
    place = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    pip += [str(place), "--editable"]
    run(*pip, str(copy), cwd=tmp_path)
    (pth,) = place.glob("*.pth")
    assert pth.read_text().strip() == str(copy / ".pyright")
    libraries = sysconfig.get_paths()["purelib"]
    script = f"import sys, site; sys.path.append({libraries!r}); sys.path[:0] = {[str(copy / '.pyright')]!r}\n{FIRST}"
    found = json.loads(run(sys.executable, "-I", "-c", script, cwd=tmp_path))
    assert Path(found[2]) == copy / ".pyright" / "sharpen" / "__init__.py"


@pytest.mark.slow
def test_a_users_program_is_checked_by_types(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(USER)
    (tmp_path / "wrong.py").write_text("import sharpen\n\nversion: int = sharpen.__version__\nsharpen.nothing\n")
    environment = Path(sys.prefix)
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"venvPath": str(environment.parent), "venv": environment.name, "include": ["*.py"]})
    )
    command = [sys.executable, "-m", "pyright", "--outputjson", "-p", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = [(Path(each["file"]).name, each.get("rule")) for each in json.loads(done.stdout)["generalDiagnostics"]]
    errors = [one for one in found if one[1] != "reportUnusedExpression"]
    assert sorted(errors) == [("wrong.py", "reportAssignmentType"), ("wrong.py", "reportAttributeAccessIssue")]
    run(sys.executable, str(tmp_path / "program.py"), cwd=tmp_path)
