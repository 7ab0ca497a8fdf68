"""docs/speed.md says what benchmarks/results/real.json holds, and calls each goal what its number makes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "speed.md"
OURS = {"bfloat16": "this commit", "float32": "this commit, float32"}
STEPS = {"10 tokens": "step of 10", "48 tokens": "step of 48"}
DEFAULTS = "older commit over this one, each as it is by default"


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / "real.json").read_text(encoding="utf-8"))


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_step_that_was_measured_is_in_the_table(measured: dict[str, Any]) -> None:
    expected = []
    for label, part in STEPS.items():
        arms = measured[part]["arms"]
        for name, arm in arms.items():
            own = arms[OURS[arm["dtype"]]]["cpu_seconds"]
            ratio = "1" if name in OURS.values() else f"{arm['cpu_seconds'] / own:.2f}"
            expected.append([label, name, arm["dtype"], f"{arm['cpu_seconds']:.1f}", ratio, f"{arm['peak_gb']:.1f}"])
    assert rows("A step") == expected


def test_one_pass_and_two_are_in_the_table(measured: dict[str, Any]) -> None:
    expected = []
    for model in ("embedded", "smollm2"):
        for name, arm in measured["one pass"][model]["arms"].items():
            passes = arm["phases"]["logprobs"] + arm["phases"]["update"]
            expected.append([model, name, f"{passes:.2f}", f"{arm['cpu_seconds']:.2f}", f"{arm['peak_gb']:.2f}"])
    assert rows("One pass") == expected
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    small, real = (measured["one pass"][model]["cpu_time_ratios"] for model in ("embedded", "smollm2"))
    passes, step = ("two passes over one, " + what for what in ("scoring and update", "step"))
    assert f"take {small[passes]:.2f} times as long in two passes for the embedded model and {real[passes]:.2f}" in text
    assert f"whole steps {small[step]:.2f} and {real[step]:.2f} times" in text


def test_both_engines_are_in_the_table(measured: dict[str, Any]) -> None:
    engines = measured["engines"]
    expected = [
        [name, f"{engines[name]['tokens_per_cpu_second']:.0f}", f"{engines[name]['peak_gb']:.1f}"]
        for name in ("transformers", "vllm")
    ]
    assert rows("Sampling") == expected


def test_goals_are_reached_or_missed_by_their_numbers(measured: dict[str, Any]) -> None:
    short, long = measured["step of 10"], measured["step of 48"]
    trl = "TRL over this commit, both {}".format
    least = [(short["cpu_time_ratios"][DEFAULTS], 5), (long["cpu_time_ratios"][DEFAULTS], 2)]
    for part in (short, long):
        least += [(part["cpu_time_ratios"][trl(dtype)], 3) for dtype in ("bfloat16", "float32")]
    expected = [(f"{found:.2f}", "reached" if found >= goal else "missed") for found, goal in least]
    peak, vllm = long["arms"]["this commit"]["peak_gb"], measured["engines"]["vllm_over_transformers"]
    expected.append((f"{peak:.1f}", "reached" if peak < 6 else "missed"))
    expected.append((f"{vllm:.2f}", "reached" if vllm >= 2 else "missed"))
    assert [(number, verdict) for _, number, verdict in rows("Goals")] == expected


def test_numbers_in_the_text_are_those_of_the_file(measured: dict[str, Any]) -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    short, long = (measured[part]["cpu_time_ratios"] for part in STEPS.values())
    both = "older commit over this one, both float32"
    assert f"takes {short[DEFAULTS]:.2f} times as long for 10 tokens and {long[DEFAULTS]:.2f} times for 48" in text
    assert f"takes {short[both]:.2f} and {long[both]:.2f} times as long" in text
    assert f"vLLM samples {measured['engines']['vllm_over_transformers']:.2f} times as many" in text
