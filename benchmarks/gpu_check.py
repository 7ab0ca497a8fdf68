"""What has to be seen on a real GPU, in one command: each part in a process and a time box of its own.

    python benchmarks/gpu_check.py [--only PART ...] [--all] [--tiny] [--seconds N] [--out FOLDER]

Needs a GPU that torch sees, no network, no model weights and no vLLM; SmolLM2 is checked where it has been converted
(``sharpen llm fetch smollm2``). A part that fails or takes too long is recorded as such and the next one runs; each
result is written as soon as it is there, to ``benchmarks/results/gpu/PART.json``. All parts together take ``--seconds``
at most (420); for what no time is left is recorded as failed. ``--all`` adds the parts that do not fit: ``--seconds``
then has to say how long they may take. ``--tiny`` rehearses every part on the CPU, and its numbers mean nothing.

The exit status is 0 if no part failed; one that is skipped, with its reason, has not failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_jax
import gpu_runs
import gpu_trainer

HERE = Path(__file__).parent
WHOLE = 420.0  # seconds of the parts that run by default, all together
START = 5.0  # a part with less time left is not started

# In the order of worth, each with the seconds that it may take.
PARTS: dict[str, tuple[Callable[[bool], dict[str, Any]], float]] = {
    "device": (gpu_trainer.device_part, 40),
    "agreement": (gpu_trainer.agreement_part, 45),
    "attention": (gpu_trainer.attention_part, 60),
    "update": (gpu_trainer.update_part, 100),
    "plain": (gpu_trainer.plain_part, 60),
    "lora": (gpu_trainer.lora_part, 60),
    "regimes": (gpu_runs.regimes_part, 90),
    "smollm2": (gpu_runs.smollm2_part, 90),
}
MORE: dict[str, tuple[Callable[[bool], dict[str, Any]], float]] = {
    "one_pass": (gpu_trainer.one_pass_part, 110),
    "ahead": (gpu_runs.ahead_part, 120),
    "jax": (gpu_jax.jax_part, 100),
    "logprobs": (gpu_trainer.logprobs_part, 40),
    "kernels": (gpu_trainer.kernels_part, 45),
    "regime": (gpu_runs.regime_part, 90),
    "seeds": (gpu_runs.seeds_part, 150),
    "killed": (gpu_runs.killed_part, 180),
}
EVERY = PARTS | MORE


def versions() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"python": sys.version.split()[0]}
    for name in ("torch", "transformers", "jax", "numpy", "triton", "peft", "vllm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def look_for_gpu() -> None:
    """End this process where torch sees no GPU, before it imports what takes longer than that answer."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU here")


def in_a_process(part: str, tiny: bool, limit: float) -> dict[str, Any]:
    """Run one part in a process of its own; say what stopped it if it did not end well."""
    command = [sys.executable, __file__, "--run", part, *(["--tiny"] if tiny else [])]
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


def checked(parts: list[str], tiny: bool, seconds: float, keep: Callable[[str, dict[str, Any]], None]) -> list[str]:
    """Run the parts in their order, ``keep`` each result at once, and return those that failed."""
    end, failed = time.perf_counter() + seconds, []
    for part in parts:
        left = end - time.perf_counter()
        if left < START:
            found: dict[str, Any] = {"failed": f"no time was left of the {seconds:.0f} s of all parts"}
        else:
            found = in_a_process(part, tiny, left if tiny else min(left, EVERY[part][1]))
        failed += [part] * ("failed" in found)
        keep(part, found)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=EVERY, help="these parts, in this order")
    parser.add_argument("--all", action="store_true", help="also the parts that do not fit into the default time")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--seconds", type=float, default=WHOLE, help="of all parts together (%(default).0f)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu", help="folder of the results")
    parser.add_argument("--commit", help="of the code, where git is not there to ask")
    parser.add_argument("--run", choices=EVERY, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        if not given.tiny:
            look_for_gpu()
        print(json.dumps(EVERY[given.run][0](given.tiny)))
        return 0
    from sharpen.objective.storage.runfolder import provenance

    given.out.mkdir(parents=True, exist_ok=True)
    origin = provenance() | {"versions": versions()} | ({"commit": given.commit} if given.commit else {})

    def keep(part: str, found: dict[str, Any]) -> None:
        (given.out / f"{part}.json").write_text(json.dumps(found | {"provenance": origin}, indent=1) + "\n")
        print(f"{part}: {json.dumps(found)[:1500]}", flush=True)

    failed = checked(given.only or list(EVERY if given.all else PARTS), given.tiny, given.seconds, keep)
    print(f"failed: {', '.join(failed)}" if failed else f"nothing failed; results in {given.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
