"""The GPU benchmarks: their FLOP against torch's counter, and `make gpu-check` rehearsed at tiny shapes on the CPU."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from tests.forked import Forks

FOLDER = Path(__file__).parents[3] / "benchmarks"
PARTS = ("device", "agreement", "update", "plain", "lora", "regimes", "smollm2", "jax", "logprobs", "kernels")
PARTS += ("attention", "one_pass", "ahead")
# The command, which forks the parts that compute in their own process; the others, and the first of the runs, start a
# process as they do on a GPU.
DRIVER = """
import json, os, subprocess, sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, "benchmarks")
import torch.profiler
import gpu_check, gpu_runs
from sharpen.cli.main import main
from tests.llm.distributed.forks import apart, together

FORKED = {"agreement", "update", "plain", "lora", "logprobs", "kernels", "one_pass", "ahead", "attention", "regimes"}
started = gpu_check.in_a_process

def in_a_process(part, tiny, limit):
    if part not in FORKED:
        return started(part, tiny, limit)
    found = Path(sys.argv[sys.argv.index("--out") + 1]) / (part + ".found")
    life = lambda _: found.write_text(json.dumps(gpu_check.EVERY[part][0](tiny))) and None
    ((status, _, words),) = together(1, life, found, limit)
    return {"failed": status, "stderr": words} if status else json.loads(found.read_text())

def command(words, **options):
    if "task-reward" in words:
        return subprocess.run(words, **options)

    def life():
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name)
        main(words[words.index("sharpen.cli.main") + 1 :])

    if apart(life, Path(os.devnull)):
        raise subprocess.CalledProcessError(1, words)

gpu_check.in_a_process = in_a_process
gpu_runs.subprocess = SimpleNamespace(run=command, DEVNULL=subprocess.DEVNULL)
sys.exit(gpu_check.main())
"""


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("llm_gpu", FOLDER / "llm_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("length", [16, 128])
def test_the_flop_are_those_that_torch_counts(benchmark: ModuleType, length: int) -> None:
    fields = {"model_type": "qwen2", **benchmark.TINY, "tie_word_embeddings": True}
    config = AutoConfig.for_model(**fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    tokens = torch.randint(0, config.vocab_size, (3, length))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, use_cache=False).logits.sum().backward()
    # Eager attention multiplies the masked half too, which the formula leaves out.
    masked = 3 * length * 6 * config.num_hidden_layers * config.hidden_size * length
    expected = benchmark.flop_of_update(config, model.num_parameters(), 3, length) + masked
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.03)


@pytest.mark.slow
def test_every_part_is_rehearsed(tmp_path: Path, model_forks: Forks) -> None:
    flags = ["--tiny", "--seconds", "800", "--out", str(tmp_path), "--only", *PARTS]
    # The same everywhere: without the models that a person's cache may hold.
    nothing = {**os.environ, "SHARPEN_CACHE": str(tmp_path / "cache")}
    done = model_forks.run(DRIVER, *flags, environment=nothing)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {part: json.loads((tmp_path / f"{part}.json").read_text(encoding="utf-8")) for part in PARTS}
    assert all(result["provenance"]["versions"]["torch"] for result in found.values())
    assert found["agreement"]["float32"]["trainer_minus_float64"]["largest"] < 1e-3
    update = found["update"]
    assert update["update_tokens_per_second"] == pytest.approx(16 * 64 / update["update_seconds"])
    assert update["predicted_update_seconds"] > update["predicted_logprob_seconds"] > 0
    assert update["planned_memory_gib"] > 0
    assert update["mfu"] is None  # no peak is known of a CPU
    assert {way: one["one_pass"] for way, one in found["one_pass"].items() if way in ("never", "always")} == {
        "never": "no",
        "always": "groups",
    }
    assert all(len(found["ahead"]["embedded"]["step_over_step_apart"][n]) == 3 for n in ("predicted", "measured"))
    assert found["logprobs"]["chunked"]["seconds"] > 0
    assert sum(kernel["share"] for kernel in found["kernels"]["kernels"]) == pytest.approx(1, abs=0.5)
    assert {
        name: run["steps"] for name, run in found["regimes"].items() if isinstance(run, dict) and "steps" in run
    } == {f"{preset}-s0": 2 for preset in ("task-reward", "sharpening", "tempered", "tilted")}
    assert "skipped" in found["smollm2"] or found["smollm2"]["steps"] == 2


def test_a_part_that_fails_is_told_and_the_next_one_runs(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("here the part would not fail")
    command = [sys.executable, str(FOLDER / "gpu_check.py"), "--out", str(tmp_path), "--only", "device", "logprobs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    for part in ("device", "logprobs"):
        assert json.loads((tmp_path / f"{part}.json").read_text(encoding="utf-8"))["failed"] == "exit status 1"


def test_no_part_starts_when_the_time_is_up(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "gpu_check.py"), "--tiny", "--out", str(tmp_path), "--seconds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    results = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in tmp_path.glob("*.json")}
    assert {"device", "agreement", "attention", "update", "plain", "lora", "regimes", "smollm2"} == set(results)
    assert all(found["failed"].startswith("no time was left") for found in results.values())
    assert "failed: device, agreement" in done.stdout


def test_a_part_out_of_its_box_is_stopped_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    check = importlib.import_module("gpu_check")
    kept: dict[str, dict[str, object]] = {}
    monkeypatch.setitem(check.EVERY, "logprobs", (check.EVERY["logprobs"][0], 0.05))
    monkeypatch.setitem(check.EVERY, "device", (check.EVERY["device"][0], 0.05))
    assert check.checked(["device", "logprobs"], False, 100, kept.__setitem__) == ["device", "logprobs"]
    assert all(found["failed"] == "took more than its 0 s" for found in kept.values())
