"""Parts of benchmarks/gpu_check.py: runs of the command, of the embedded model and of SmolLM2."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PRESETS = ("task-reward", "sharpening", "tempered", "tilted")


def regime_part(tiny: bool) -> dict[str, Any]:
    """One embedded run by the command, alone on the card: seconds a step by phase."""
    with tempfile.TemporaryDirectory() as folder:
        return _runs(Path(folder), ("tempered",), (0,), tiny, at_once=1)


def regimes_part(tiny: bool) -> dict[str, Any]:
    """Every regime of the embedded model, four updates each, all at once: that they run here, and their pass@1."""
    with tempfile.TemporaryDirectory() as folder:
        return _runs(Path(folder), PRESETS, (0,), tiny, at_once=1 if tiny else 4, steps=2 if tiny else 4)


def smollm2_part(tiny: bool) -> dict[str, Any]:
    """Two updates of SmolLM2 on words and their first letters, where its converted folder is."""
    from sharpen.llm.models import store
    from sharpen.llm.models.registry import REGISTRY

    location = REGISTRY["smollm2"].location
    if not store.is_ready(location):
        return {
            "skipped": f"SmolLM2 is not at {store.place(location)}: `sharpen llm fetch smollm2`, or carry that folder"
        }
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        size = "2" if tiny else "32"
        command = [*_command("task-reward", 2, 0, tiny), "--model", "smollm2", "--task", "first-letter"]
        command += ["--prompts-per-step", size, "--max-length", "96" if tiny else "128", "--out", str(out)]
        command += ["--eval-samples", "2", "--eval-problems", "2", "--set", "evaluation.alpha_prompts=0"]
        subprocess.run([*command, "--checkpoint-every", "2"], check=True, stdout=subprocess.DEVNULL)
        return run_summary(out)


def ahead_part(tiny: bool) -> dict[str, Any]:
    """Steps that sample the next batch beside the update over steps that sample first, as benchmarks/llm/overlap.py."""
    sys.path.insert(0, str(Path(__file__).parent / "llm"))
    import overlap  # pyright: ignore[reportMissingImports]

    cases = {"embedded": (2, 2, 40, 1)} if tiny else {"embedded": (8, 8, 40, 4), "smollm2": (32, 8, 128, 3)}
    device = {"device": "cpu", "dtype": "float32"} if tiny else {"device": "cuda", "dtype": "bfloat16"}
    return {model: overlap.compared(model, cases[model], **device) for model in overlap.here(cases)}


def seeds_part(tiny: bool) -> dict[str, Any]:
    """Every regime with three seeds, all at once: their pass@1; the times are those of a shared card."""
    with tempfile.TemporaryDirectory() as folder:
        return _runs(Path(folder), PRESETS[:1] if tiny else PRESETS, (1,) if tiny else (0, 1, 2), tiny, at_once=12)


def _runs(
    folder: Path, presets: Sequence[str], seeds: Sequence[int], tiny: bool, at_once: int, steps: int | None = None
) -> dict[str, Any]:
    def run(name: str) -> tuple[str, dict[str, Any]]:
        preset, seed = name.rsplit("-s", 1)
        start = time.perf_counter()
        subprocess.run(training(folder / name, preset, int(seed), tiny, steps), check=True, stdout=subprocess.DEVNULL)
        return name, run_summary(folder / name) | {"wall_seconds": time.perf_counter() - start}

    with ThreadPoolExecutor(at_once) as pool:
        return dict(pool.map(run, [f"{preset}-s{seed}" for preset in presets for seed in seeds]))


def training(out: Path, preset: str, seed: int, tiny: bool, steps: int | None = None) -> list[str]:
    command = _command(preset, steps or (2 if tiny else 8), seed, tiny)
    command += ["--checkpoint-every", "1" if tiny else "4", "--out", str(out), "--eval-samples", "2" if tiny else "8"]
    command += ["--eval-problems", "2" if tiny else "64", "--set", f"evaluation.alpha_prompts={1 if tiny else 8}"]
    least = ["--prompts-per-step", "4", "--max-length", "32", "--set", "problems=64"]
    return [*command, *least] if tiny else command


def _command(preset: str, steps: int, seed: int, tiny: bool) -> list[str]:
    command = [sys.executable, "-m", "sharpen.cli.main", "llm", "train", "--preset", preset, "--steps", str(steps)]
    return [*command, "--seed", str(seed), "--engine", "transformers", "--device", "cpu" if tiny else "cuda"]


def run_summary(out: Path) -> dict[str, Any]:
    """Return pass@1 of base and last, and the median seconds of each phase of a step."""
    import statistics

    import yaml

    evaluation = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    later = records[1:]
    return {
        "steps": len(records),
        "dtype": yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))["dtype"],
        "pass@1": {name: evaluation[name]["pass@1"] for name in ("base", "last")},
        "seconds": {phase: statistics.median(r["seconds"][phase] for r in later) for phase in later[0]["seconds"]},
    }


def killed_part(tiny: bool) -> dict[str, Any]:
    """Kill a run (-9) after its first checkpoint, continue it, and compare its weights with an unbroken run's."""
    import torch
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole", Path(folder) / "parts"
        subprocess.run(training(whole, "tempered", 0, tiny), check=True, stdout=subprocess.DEVNULL)
        process = subprocess.Popen(training(parts, "tempered", 0, tiny), stdout=subprocess.DEVNULL)
        while process.poll() is None and not list((parts / "checkpoints").glob("step_*")):
            time.sleep(0.01)
        process.kill()
        died = process.wait() == -9  # and had not ended before
        subprocess.run(training(parts, "tempered", 0, tiny), check=True, stdout=subprocess.DEVNULL)
        one, other = (load_file(max((run / "checkpoints").glob("step_*/model.safetensors"))) for run in (whole, parts))
    return {
        "killed": died,
        "equal_bits": all(torch.equal(weight, other[name]) for name, weight in one.items()),
        "largest_difference": max(
            float((weight.double() - other[name].double()).abs().max()) for name, weight in one.items()
        ),
    }
