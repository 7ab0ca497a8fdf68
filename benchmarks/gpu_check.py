"""What has to be seen on a real GPU, in one command: each part in a process and a time box of its own.

    python benchmarks/gpu_check.py [--only PART ...] [--smoke] [--out FOLDER]

Needs a GPU that torch sees, no network, no model weights and no vLLM. A part that fails or takes too long is recorded
as such and the next one runs; each result is written as soon as it is there, to ``benchmarks/results/gpu/PART.json``.
``--smoke`` rehearses every part on the CPU at a tiny size, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHAPE = "qwen2.5-3b"
PRESETS = ("task-reward", "sharpening", "tempered", "tilted")


def device_part(smoke: bool) -> dict[str, Any]:
    """The card's own ceilings: a large bf16 product, and a copy (bytes read and written)."""
    import torch

    device, n, times = ("cpu", 256, 2) if smoke else ("cuda", 8192, 10)
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(2**20 if smoke else 2**30, device=device)
    target = torch.empty_like(source)
    product = seconds_of(lambda: torch.mm(a, b), device, times)
    copy = seconds_of(lambda: target.copy_(source), device, times)
    return {
        "name": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "memory_gib": torch.cuda.mem_get_info()[1] / 2**30 if device == "cuda" else None,
        "product_flop_per_second": 2 * n**3 / product,
        "copy_bytes_per_second": 2 * source.nbytes / copy,
    }


def seconds_of(work: Callable[[], Any], device: str, times: int) -> float:
    """Return the mean time of one call among ``times``, after three that do not count."""
    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        work()
    wait()
    start = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return (time.perf_counter() - start) / times


def agreement_part(smoke: bool) -> dict[str, Any]:
    """Log-probabilities of the embedded model: policy, reference and fallback engine on the device, float64 on the CPU.

    The reference has to equal the policy to the last bit; engine and float64 tell the size of rounding.
    """
    import torch

    from sharpen.llm.models.logprobs import token_logprobs
    from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
    from sharpen.llm.rollout import Sampling
    from sharpen.llm.rollout.transformers_engine import TransformersEngine
    from sharpen.llm.tasks.templates import encode
    from sharpen.llm.training.reference import make_reference
    from sharpen.objective import Objective

    device, source = "cpu" if smoke else "cuda", resolve("embedded")
    tokenizer: Any = load_tokenizer(source)
    prompts = [encode(tokenizer, f"{a}+{a}+{a}=", "plain") for a in range(10, 42 if smoke else 74)]
    exact = load_model(source, "cpu", "float32").double()
    found: dict[str, Any] = {}
    for name in ("float32", "bfloat16"):
        model = load_model(source, device, name)
        engine = TransformersEngine(model, max_length=64, eos_ids=[tokenizer.eos_token_id])
        rollout = engine.generate(prompts, 8, Sampling(48), seed=0)
        options: dict[str, Any] = {"micro_batch_tokens": 8192}
        policy = token_logprobs(model, rollout.prompt_ids, rollout.response_ids, **options)
        reference = make_reference(Objective(alpha=2.0), model, dtype=getattr(torch, name))
        again = reference.logprobs(rollout, **options)
        truth = token_logprobs(exact, rollout.prompt_ids, rollout.response_ids, **options)
        sampled = torch.tensor([x for row in rollout.logprobs for x in row], dtype=torch.float64)
        mask = policy.mask_BT.cpu()
        scored, wanted = policy.logprobs_BT.cpu().double()[mask], truth.logprobs_BT[mask]
        assert torch.equal(policy.logprobs_BT, again), "the reference differs from the policy at step 0"
        found[name] = {
            "tokens": len(sampled),
            "reference_equals_policy": True,
            "engine_minus_trainer": spread(sampled - scored),
            "trainer_minus_float64": spread(scored - wanted),
        }
    return found


def spread(errors: Any) -> dict[str, float]:
    """Return mean, standard deviation, 99.9 % quantile of the size and largest size of errors, in nats a token."""
    sizes = errors.abs()
    return {
        "mean": float(errors.mean()),
        "sd": float(errors.std()),
        "q999": float(sizes.quantile(0.999)),
        "largest": float(sizes.max()),
    }


def regime_part(smoke: bool) -> dict[str, Any]:
    """One embedded run by the command, alone on the card: seconds a step by phase."""
    with tempfile.TemporaryDirectory() as folder:
        return _runs(Path(folder), ("tempered",), (0,), smoke, at_once=1)


def seeds_part(smoke: bool) -> dict[str, Any]:
    """Every regime with three seeds, all at once: their pass@1; the times are those of a shared card."""
    with tempfile.TemporaryDirectory() as folder:
        return _runs(Path(folder), PRESETS[:1] if smoke else PRESETS, (1,) if smoke else (0, 1, 2), smoke, at_once=12)


def _runs(folder: Path, presets: Sequence[str], seeds: Sequence[int], smoke: bool, at_once: int) -> dict[str, Any]:
    def run(name: str) -> tuple[str, dict[str, Any]]:
        preset, seed = name.rsplit("-s", 1)
        start = time.perf_counter()
        subprocess.run(training(folder / name, preset, int(seed), smoke), check=True, stdout=subprocess.DEVNULL)
        return name, run_summary(folder / name) | {"wall_seconds": time.perf_counter() - start}

    with ThreadPoolExecutor(at_once) as pool:
        return dict(pool.map(run, [f"{preset}-s{seed}" for preset in presets for seed in seeds]))


def training(out: Path, preset: str, seed: int, smoke: bool) -> list[str]:
    steps = 2 if smoke else 8
    command = [sys.executable, "-m", "sharpen.cli.main", "llm", "train", "--preset", preset, "--steps", str(steps)]
    command += ["--seed", str(seed), "--engine", "transformers", "--device", "cpu" if smoke else "cuda"]
    command += ["--checkpoint-every", "1" if smoke else "4", "--out", str(out), "--eval-samples", "4" if smoke else "8"]
    return [*command, "--eval-problems", "8" if smoke else "64", "--set", "evaluation.alpha_prompts=8"]


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


def killed_part(smoke: bool) -> dict[str, Any]:
    """Kill a run (-9) after its first checkpoint, continue it, and compare its weights with an unbroken run's."""
    import torch
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole", Path(folder) / "parts"
        subprocess.run(training(whole, "tempered", 0, smoke), check=True, stdout=subprocess.DEVNULL)
        process = subprocess.Popen(training(parts, "tempered", 0, smoke), stdout=subprocess.DEVNULL)
        while process.poll() is None and not list((parts / "checkpoints").glob("step_*")):
            time.sleep(0.01)
        process.kill()
        died = process.wait() == -9  # and had not ended before
        subprocess.run(training(parts, "tempered", 0, smoke), check=True, stdout=subprocess.DEVNULL)
        one, other = (load_file(max((run / "checkpoints").glob("step_*/model.safetensors"))) for run in (whole, parts))
    return {
        "killed": died,
        "equal_bits": all(torch.equal(weight, other[name]) for name, weight in one.items()),
        "largest_difference": max(
            float((weight.double() - other[name].double()).abs().max()) for name, weight in one.items()
        ),
    }


def update_part(smoke: bool) -> dict[str, Any]:
    """The paper's update, 256 x 2048 tokens, at the 3B shape: full weights with activation checkpointing."""
    return update(smoke, rows=256, steps=2)


def plain_part(smoke: bool) -> dict[str, Any]:
    """The same without activation checkpointing, 32 rows, two to a micro-batch."""
    return update(smoke, rows=32, microbatch=4096, checkpointing=False, steps=3)


def lora_part(smoke: bool) -> dict[str, Any]:
    """The same with adapters of rank 16, 64 rows."""
    return update(smoke, rows=64, lora=16, steps=3)


def update(smoke: bool, rows: int, microbatch: int = 16384, **options: Any) -> dict[str, Any]:
    from llm_gpu import TINY
    from llm_gpu import update as measured

    from sharpen.llm.models.registry import REGISTRY

    fields: dict[str, Any] = dict(REGISTRY[SHAPE].architecture)
    if smoke:
        return measured(fields | TINY, "cpu", 16, 64, 512, **options)
    return measured(fields, "cuda", rows, 2048, microbatch, **options)


def kernels_part(smoke: bool) -> dict[str, Any]:
    """Where the time of a micro-batch goes at the 3B shape in bf16: kernels by their share, forward and backward."""
    import torch
    from llm_gpu import TINY
    from torch.profiler import ProfilerActivity, profile
    from transformers import AutoConfig, AutoModelForCausalLM

    from sharpen.llm.models.logprobs import make_batches, response_logprobs
    from sharpen.llm.models.registry import REGISTRY

    device, rows, length = ("cpu", 2, 64) if smoke else ("cuda", 4, 2048)
    fields: dict[str, Any] = dict(REGISTRY[SHAPE].architecture) | (TINY if smoke else {"num_hidden_layers": 12})
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields), dtype=torch.bfloat16)
    tokens = torch.randint(0, fields["vocab_size"], (rows, length)).tolist()
    pairs = [row[:8] for row in tokens], [row[8:] for row in tokens]
    (batch,) = make_batches(*pairs, micro_batch_tokens=rows * length, device=device)

    def work() -> None:
        response_logprobs(model, batch, with_entropy=True).logprobs_BT.sum().backward()

    work()
    activities = [ProfilerActivity.CPU] + ([] if smoke else [ProfilerActivity.CUDA])
    with profile(activities=activities) as found:
        work()
        if not smoke:
            torch.cuda.synchronize()
    events = found.key_averages()
    time_of: Callable[[Any], float] = lambda e: e.self_cpu_time_total if smoke else e.self_device_time_total  # noqa: E731
    kernels = [e for e in events if smoke or e.device_type.name == "CUDA"]
    total = sum(map(time_of, kernels))
    largest = sorted(kernels, key=time_of, reverse=True)[:25]
    return {
        "microseconds": total,
        "attention": model.config._attn_implementation,
        "kernels": [{"name": e.key[:100], "calls": e.count, "share": time_of(e) / total} for e in largest],
    }


def logprobs_part(smoke: bool) -> dict[str, Any]:
    """Chunked log-probabilities beside those with all logits at once: time and peak memory."""
    from llm_gpu import TINY, logprob_passes

    from sharpen.llm.models.registry import REGISTRY

    fields: dict[str, Any] = dict(REGISTRY[SHAPE].architecture)
    return logprob_passes(fields | TINY, "cpu", 2, 64) if smoke else logprob_passes(fields, "cuda", 8, 2048)


def jax_part(smoke: bool) -> dict[str, Any]:
    """Toy ensembles up to 10^6 policies, and log pi* of 10^7 outcomes, by JAX on the GPU and on one CPU core."""
    importlib.import_module("toy")  # sets one core, before JAX reads it
    import jax
    import numpy as np

    from sharpen.objective import Objective
    from sharpen.theory.core import backend

    if smoke:
        jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    found: dict[str, Any] = {"devices": [str(device) for device in jax.devices()]}
    for name in ("cpu",) if smoke else ("cpu", "gpu"):
        with jax.default_device(jax.devices(name)[0]):
            for n, policies in ((64, 100),) if smoke else ((64, 10**4), (64, 10**6)):
                for kind in ("natural", "softmax", "rloo"):
                    if policies > 10**4 and (name == "cpu" or kind == "rloo"):
                        continue
                    rate = updates_per_second(kind, n, policies, 2 if smoke else 100)
                    found[f"{name}, {kind}, n={n}, policies={policies}, updates/s"] = rate
            log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(1000 if smoke else 10**7)))
            arrays = (jax.numpy.asarray(log_p), jax.numpy.zeros(log_p.size))
            best = jax.jit(lambda p, r: backend.log_optimum(Objective(alpha=2.0), r, p))
            jax.block_until_ready(best(*arrays))
            start = time.perf_counter()
            jax.block_until_ready([best(*arrays) for _ in range(5)])
            found[f"{name}, log pi*, n={log_p.size}, seconds"] = (time.perf_counter() - start) / 5
    return found


def updates_per_second(kind: str, n: int, policies: int, steps: int) -> float:
    """Return policy-updates a second of one learner, as benchmarks/toy.py runs it, compilation apart."""
    import numpy as np

    toy = importlib.import_module("toy")
    advance = toy.toy(kind)(toy.problem(n, policies))
    advance(steps)  # compiles
    begin = time.perf_counter()
    end = advance(steps)
    took = time.perf_counter() - begin
    assert np.isfinite(end).all()
    return policies * steps / took


PARTS: dict[str, tuple[Callable[[bool], dict[str, Any]], float]] = {  # and the seconds that it may take
    "device": (device_part, 40),
    "agreement": (agreement_part, 60),
    "update": (update_part, 170),
    "plain": (plain_part, 75),
    "lora": (lora_part, 60),
    "logprobs": (logprobs_part, 40),
    "kernels": (kernels_part, 45),
    "jax": (jax_part, 100),
    "regime": (regime_part, 90),
    "seeds": (seeds_part, 150),
    "killed": (killed_part, 180),
}


def versions() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"python": sys.version.split()[0]}
    for name in ("torch", "transformers", "jax", "numpy", "triton", "peft", "vllm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def in_a_process(part: str, smoke: bool) -> dict[str, Any]:
    """Run one part in a process of its own; say what stopped it if it did not end well."""
    limit = 600 if smoke else PARTS[part][1]
    command = [sys.executable, __file__, "--run", part, *(["--smoke"] if smoke else [])]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        return {"failed": f"took more than its {limit:.0f} s", "stderr": err[-2000:]}
    took = {"part_seconds": time.perf_counter() - start}
    if process.returncode:
        return {"failed": f"exit status {process.returncode}", "stderr": err[-4000:], **took}
    return json.loads(out.strip().splitlines()[-1]) | took


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu")
    parser.add_argument("--commit", help="of the code, where git is not there to ask")
    parser.add_argument("--run", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(PARTS[given.run][0](given.smoke)))
        return 0
    from sharpen.objective.storage.runfolder import provenance

    given.out.mkdir(parents=True, exist_ok=True)
    origin = provenance() | {"versions": versions()} | ({"commit": given.commit} if given.commit else {})
    failed = 0
    for part in given.only:
        found = in_a_process(part, given.smoke)
        failed += "failed" in found
        (given.out / f"{part}.json").write_text(json.dumps(found | {"provenance": origin}, indent=1) + "\n")
        print(f"{part}: {json.dumps(found)[:1500]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
