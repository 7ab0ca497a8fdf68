"""Where the time of one RLOO step goes: by phase, and in each by what the processor does.

    python benchmarks/speed/step_profile.py ["embedded, 32 x 8"] ["smollm2, 8 x 8 x 10"]

Three steps of this commit with one thread and the engine ``transformers``: the embedded model as it is trained by
default, and SmolLM2-135M-Instruct (``sharpen llm fetch smollm2``) in bfloat16, prompts of 40 tokens and responses of 10
or 48 tokens, on the problems of ``benchmarks/real.py``. Each is trained for three steps in one process. The second is
timed by phase in processor seconds, without a profiler. The third is under ``torch.profiler``, which tells what share
of each phase's time each kind of operation takes; the rest is Python, and dispatching operations. Only shares are taken
from it, since it makes steps slower.

Beside it are the floating-point operations of the matrix products, the rate at which they were done, and the rate of
one large product on the same core, just before: what this processor does at best. Writes
``benchmarks/results/step_profile.json``, where steps that were not asked for stay as they are.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import real
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from sharpen.llm.models import store
from sharpen.llm.models.registry import load_tokenizer, resolve
from sharpen.llm.training import trainer
from sharpen.objective.storage import files, runfolder

RESULT = Path(__file__).parents[1] / "results" / "step_profile.json"
SMOLLM2 = {"model": "smollm2", "prompts": 8, "samples": 8, "prompt_tokens": 40, "settings": {"dtype": "bfloat16"}}
CASES = {
    "embedded, 32 x 8": {"prompts": 32, "samples": 8, "length": None, "settings": {}},
    "smollm2, 8 x 8 x 10": {**SMOLLM2, "length": 10},
    "smollm2, 8 x 8 x 48": {**SMOLLM2, "length": 48},
}
PHASES = ("rollout", "logprobs", "reward", "update", "push")
# Kind of an operation by what its name contains, the first that fits.
KINDS = {
    "matrix products": ("mm", "linear_pointwise", "mkldnn_linear", "linear_backward", "bmm"),
    "attention": ("flash_attention", "scaled_dot_product"),
    "copies": (
        "copy_",
        "cat",
        "index",
        "gather",
        "scatter",
        "clone",
        "select_backward",
        "slice_backward",
        "masked_fill",
    ),
    "softmax": ("softmax", "logsumexp", "log_sum_exp", "exp", "cumsum", "searchsorted"),
    "optimizer": ("adam", "foreach", "clip", "linalg_vector_norm"),
}


def kind_of(name: str) -> str:
    """Return the kind of an operation.

    Example:
        >>> kind_of("aten::addmm"), kind_of("aten::cat"), kind_of("aten::mul")
        ('matrix products', 'copies', 'element by element, and the rest')
    """
    bare = name.lower().rpartition("::")[2]
    return next(
        (kind for kind, parts in KINDS.items() if any(part in bare for part in parts)),
        "element by element, and the rest",
    )


@contextmanager
def profiled_phases() -> Iterator[None]:
    """Mark the trainer's phases for the profiler."""
    timed = trainer._timed

    @contextmanager
    def marked(seconds: dict[str, float], phase: str) -> Iterator[None]:
        with record_function(f"phase {phase}"), timed(seconds, phase):
            yield

    trainer.__dict__["_timed"] = marked
    try:
        yield
    finally:
        trainer.__dict__["_timed"] = timed


def phase_of(event: Any) -> str | None:
    """Return in which phase an operation ran."""
    while event is not None:
        if event.name.startswith("phase "):
            return event.name.removeprefix("phase ")
        event = event.cpu_parent
    return None


def shares(events: Any) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]], dict[str, float]]:
    """Return of each phase the share of each kind of operation and of the longest ones, and the FLOP of products."""
    total: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {phase: Counter() for phase in PHASES}
    names: dict[str, Counter[str]] = {phase: Counter() for phase in PHASES}
    flop: Counter[str] = Counter()
    for event in events:
        phase = phase_of(event)
        if phase not in kinds:
            continue
        if event.name.startswith("phase "):
            total[phase] += event.cpu_time_total
            kinds[phase]["Python and dispatch"] += event.self_cpu_time_total
            continue
        kinds[phase][kind_of(event.name)] += event.self_cpu_time_total
        names[phase][event.name] += event.self_cpu_time_total
        flop[phase] += event.flops or 0
    of_kinds = {p: {kind: us / total[p] for kind, us in kinds[p].most_common()} for p in PHASES if total[p]}
    of_names = {p: {name: us / total[p] for name, us in names[p].most_common(6)} for p in PHASES if total[p]}
    return of_kinds, of_names, dict(flop)


def best_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Return the FLOP a second of one large matrix product."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    times = []
    for _ in range(4):
        start = time.process_time()
        _ = a @ b
        times.append(time.process_time() - start)
    return 2 * size**3 / min(times)


def measured(case: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """Return phases, shares and rates of a step."""
    job = {**task, **case}
    learner, compute = real.learner_of(job)
    trainer.__dict__["time"] = SimpleNamespace(perf_counter=time.process_time)  # the clock of the phases
    rate = best_rate(compute)
    learner.step()
    start = time.process_time()
    record, _ = learner.step()
    whole = time.process_time() - start
    with profiled_phases(), profile(activities=[ProfilerActivity.CPU], with_flops=True) as found:
        learner.step()
    learner.engine.close()
    kinds, names, flop = shares(found.events())
    seconds = {phase: record["seconds"][phase] for phase in PHASES}
    seconds["other"] = whole - sum(seconds.values())
    products = sum(seconds[phase] * kinds[phase].get("matrix products", 0.0) for phase in kinds)
    return {
        "cpu_seconds": whole,
        "phases": seconds,
        "response_length": record["response_length"],
        "dtype": str(compute).removeprefix("torch."),
        "shares": kinds,
        "operations": names,
        "flop_of_products": sum(flop.values()),
        "products": {"cpu_seconds": products, "flop_per_second": sum(flop.values()) / products, "best": rate},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="which steps; default: all that can be had")
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["steps"] if RESULT.exists() else {}
    about = runfolder.provenance()
    for name in given.cases or CASES:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            if "model" not in case:
                task = real.embedded_task()
            elif store.is_ready(resolve(case["model"]).location):
                data, template = real.write_problems(Path(folder), load_tokenizer(resolve(case["model"])))
                task = {"data": data, "template": template}
            else:
                print(f"{name}: {case['model']} is not on this machine", file=sys.stderr)
                continue
            own = measured(case, task)
        print(name, json.dumps(own, indent=1), flush=True)
        where = {key: about[key] for key in ("commit", "machine")} | {"load": os.getloadavg()}
        kept[name] = {**own, "measured": where}
        ordered = {each: kept[each] for each in CASES if each in kept}
        found = {"command": "python benchmarks/speed/step_profile.py", "steps": ordered}
        files.write(RESULT, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
