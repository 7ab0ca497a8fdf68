"""The wheel and the sdist, built and installed as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from importlib.util import cache_from_source
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


# Where a path of modules is set, this checkout would pass for the installed package.
OUTSIDE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=OUTSIDE, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist from a clean copy of the tracked files, and the wheel from the sdist.

    With this environment's setuptools: that the declared ones build the package in an environment of their own is seen
    by every installation.
    """
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source))
    return folder / "dist"


def test_wheel_holds_the_packages_and_their_data_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names} == {"sharpen", f"{wheel.name.rsplit('-py3', 1)[0]}.dist-info"}
    assert {"sharpen/__init__.py", "sharpen/py.typed"} <= names
    for package in ("objective", "theory", "toy", "llm", "cli", "figures", "paper_repro"):
        on_disk = {f"sharpen/{file.relative_to(ROOT)}" for file in (ROOT / package).rglob("*.py")}
        assert on_disk <= names
    assert {"sharpen/llm/tiny/artifact/model.safetensors", "sharpen/llm/tasks/prompts/boxed-cot.txt"} <= names
    assert {
        "sharpen/paper_repro/report/templates/report.html",
        "sharpen/theory/proofs/templates/derivations.html",
        "sharpen/llm/configs/grid.yaml",
        "sharpen/paper_repro/grid.yaml",
    } <= names


def test_sdist_holds_what_a_packager_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".pyright/sharpen/__init__.py",
        ".pyright/sharpen/objective/spec.py",
        ".pyright/sharpen/llm/tiny/artifact/model.safetensors",
    } <= names
    assert not any(name.startswith((".venv", "runs", "tests/mutation")) for name in names)


PUBLIC = """
import sys
import sharpen
print(sharpen.__version__, sharpen.Objective(alpha=2))
heavy = {"torch", "jax", "transformers", "scipy", "matplotlib", "pandas", "sympy"} & set(sys.modules)
assert not heavy, heavy
"""
USER = """
import sharpen
from sharpen.theory import Problem, optimum

found = optimum(sharpen.Objective(alpha=2.0), Problem([0.5, 0.5], [0, 1]))
reveal_type(found.expected_reward)
reveal_type(sharpen.__version__)
"""


def test_the_public_line_and_types_come_from_the_wheel_alone(built: Path, tmp_path: Path) -> None:
    """In an environment that has the wheel, and finds the packages that it depends on in this one's folder."""
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # Their folder only: its .pth files, an editable install among them, are not read.
    here = sysconfig.get_paths()["purelib"]
    probe = [str(python), "-I", "-c", f"import sys; sys.path.append({here!r})\n{PUBLIC}"]
    assert run(*probe, cwd=tmp_path).startswith("0.")
    origin = [
        str(python),
        "-I",
        "-c",
        f"import sys; sys.path.append({here!r})\nimport sharpen; print(sharpen.__file__)",
    ]
    assert Path(run(*origin, cwd=tmp_path).strip()).is_relative_to(site)
    program = tmp_path / "program.py"
    program.write_text(USER, encoding="utf-8")
    (site / "others.pth").write_text(f"{here}\n", encoding="utf-8")  # where pyright finds numpy
    told = run(sys.executable, "-m", "pyright", "--pythonpath", str(python), str(program), cwd=tmp_path)
    assert 'Type of "found.expected_reward" is "float"' in told
    assert 'Type of "sharpen.__version__" is "str"' in told
    assert "0 errors" in told


def base_packages() -> list[Distribution]:
    """Return what the base install brings, as pip chose it for this environment under the same constraints."""
    asked = [("sharpen-rl", "")]  # packages, each with an extra of it or none
    for name, extra in asked:  # grows meanwhile
        for text in distribution(name).requires or []:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                more = [(canonicalize_name(wanted.name), one) for one in ("", *wanted.extras)]
                asked += [one for one in more if one not in asked]
    return [distribution(name) for name in {name for name, _ in asked[1:]}]


def link(package: Distribution, site: Path) -> None:
    """Show an installed package's files in another environment, each with its bytecode."""
    for file in package.files or []:
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        here = Path(str(package.locate_file(file)))
        bytecode = Path(cache_from_source(str(here))) if file.suffix == ".py" else here
        for source in {here, bytecode}:
            target = site / source.relative_to(str(package.locate_file("")))
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.exists():
                target.symlink_to(source)


@pytest.mark.slow
def test_wheel_runs_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    """The base install alone gives theory and toy; the language-model commands say which extra they need."""
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    binaries = tmp_path / "env" / "bin"
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    for package in base_packages():
        link(package, site)
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python")]
    run(*pip, "install", "--quiet", "--no-compile", "--no-deps", str(wheel))
    run(*pip, "check")  # nothing that the wheel asks for is missing or of another version
    assert (site / "jax").is_dir()
    assert not (site / "torch").exists()
    assert '"fixed_points"' in run(str(binaries / "sharpen"), "theory", "fixed-points", "--json", cwd=tmp_path)
    run(str(binaries / "sharpen"), "toy", "simulate", "--steps", "20", "--out", "toy", cwd=tmp_path)
    assert (tmp_path / "toy" / "summary.json").exists()
    llm = subprocess.run(
        [str(binaries / "sharpen"), "llm", "train"], cwd=tmp_path, env=OUTSIDE, capture_output=True, text=True
    )
    assert llm.returncode == 2
    assert llm.stderr.count("\n") == 1
    assert "pip install '.[llm]'" in llm.stderr
