"""One training run of a language model, then its checkpoints on the problems of the evaluation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from sharpen.objective.storage import files
from sharpen.paper_repro.work.measures import asked, by_problem, folder_of, greedy, singly

CURVES = (
    *("reward", "pseudo_reward", "response_length", "finished", "entropy", "kl_ref", "ref_logprob"),
    *("effective_alpha", "effective_alpha_fixed_length", "gradient_norm"),
)
BATCH = 64  # problems asked together


def train(settings: dict[str, Any], folder: Path, processes: int = 1) -> dict[str, Any]:
    """Train, or continue training, and return what the report needs.

    Args:
        settings: ``config``, a resolved TrainConfig; ``evaluate``, what last and best are asked.
        folder: For the run's own folder and the evaluations'.
        processes: GPUs; several are started by torchrun.

    Returns:
        ``training``: one list an update for each of ``CURVES`` (None where it has no value); ``selection``: ``step``
        and held-out ``pass@1`` of every checkpoint; ``checkpoints``: ``last`` and ``best``, each with its ``step`` and,
        by data set, :func:`sharpen.paper_repro.work.measures.by_problem`; ``tokens``: generated in training and
        evaluation.
    """
    from sharpen.llm.configs.train import TrainConfig
    from sharpen.llm.training import metrics

    config = TrainConfig.as_written(settings["config"])
    run = folder / "train"
    _train(config, run, processes)
    evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    records = metrics.read(run / "metrics.jsonl")
    checkpoints: dict[str, Any] = {}
    for name in ("last", "best"):
        step = evaluation[name]["step"]
        same = checkpoints.get("last", {}).get("step") == step
        found = checkpoints["last"]["problems"] if same else _evaluate(config, settings["evaluate"], run, name, folder)
        checkpoints[name] = {"step": step, "problems": found}
    samples = config.prompts_per_step * config.samples_per_prompt
    trained = sum(round(record["response_length"] * samples) for record in records)
    evaluated = sum(_tokens(table) for table in checkpoints["last"]["problems"].values())
    if checkpoints["best"]["step"] != checkpoints["last"]["step"]:
        evaluated += sum(_tokens(table) for table in checkpoints["best"]["problems"].values())
    return {
        "training": {name: [record[name] for record in records] for name in CURVES},
        "selection": [{"step": row["step"], "pass@1": row["pass@1"]} for row in evaluation["selection"]],
        "checkpoints": checkpoints,
        "tokens": {"trained": trained, "evaluated": evaluated},
    }


def _train(config: Any, run: Path, processes: int) -> None:
    if processes == 1:
        from sharpen.llm.training.run import train as train_here

        train_here(config, run)
        return
    import yaml

    file = run.parent / "config.yaml"
    files.write(file, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command += ["-m", "sharpen.cli.main", "llm", "train", "--config", str(file), "--out", str(run)]
    subprocess.run(command, check=True)


def _evaluate(config: Any, sets: list[dict[str, Any]], run: Path, name: str, folder: Path) -> dict[str, Any]:
    from sharpen.llm.configs.targets import find_target
    from sharpen.llm.evaluation.run import EvalConfig, run_evaluation

    target = find_target(str(run), name)
    found = {}
    for one in sets:
        policy = {
            "model": target.location,
            "base": target.base,
            "template": target.template,
            "max_length": target.max_length,
            "engine": config.engine,
            "device": config.device,
            "dtype": config.dtype,
            "batch": BATCH,
            "seed": config.seed,
        }
        out = folder / f"{name}-{folder_of(one)}"
        _, records = run_evaluation(EvalConfig(**policy, **asked(one)), out)
        found[one["data"]] = by_problem(records, one["samples"], calibrate="calibrate" in one, keep=one.get("keep", 0))
        if "cross" in one:
            before = {**asked(one), **policy, "model": target.base, "base": target.location, "samples": one["cross"]}
            _, drawn = run_evaluation(EvalConfig(**before), out.with_name(f"{out.name}-cross"))
            found[one["data"]]["cross"] = singly(drawn, one["cross"])  # here logprob is log p and base_logprob log pi
        if "greedy" in one:
            found[one["data"]]["greedy"] = greedy(policy, one, out.with_name(f"{out.name}-greedy"))
    return found


def _tokens(table: dict[str, Any]) -> int:
    return round(sum(table["response_length"]) * table["samples"])
