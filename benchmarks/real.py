"""Steps and rollouts of a real pretrained model: beside an older commit, beside TRL, vLLM beside the fallback.

    python benchmarks/real.py [--against 6e0eb1c] [--rounds 2] [--only "step of 10"] [--quick]

SmolLM2-135M-Instruct (``--model smollm2``), sums of two numbers in prompts of exactly 40 tokens, 8 prompts x 8 samples,
responses of exactly 10 or 48 tokens (EOS ignored), one thread.

1. One RLOO step of this commit against one of ``--against``, with the fallback engine: each with its own defaults, and
   both in float32.
2. The same step of TRL's RLOOTrainer: the same weights, prompts, verifier, sizes, dtype, AdamW and one update a batch,
   without a reference model (beta 0), generating by transformers, which is what it can do in one process on a CPU.
   Responses have a fixed length there by ``min_new_tokens``, which forbids EOS. bfloat16 is its autocast over float32
   weights, as ours rounds float32 masters.
3. One step of this commit that scores the samples before it learns from them, and one that does both in one pass over
   whole groups (``one_pass``), neither keeping the graph of a whole step (``graph_tokens``): SmolLM2 as in 1, and the
   embedded model.
4. Tokens sampled a second by vLLM and by the fallback, both in bfloat16.
5. A step of this commit beside TRL's with 16 and with 64 samples a prompt, the engine transformers in both: SmolLM2
   with 64 rows of 10 tokens, in bfloat16 where the processor computes with it and else in float32, and the embedded
   model in float32 with 256 rows of 16.

Every measurement is a process of its own; the arms take turns, in reversed order every other round. Of each process's
two steps the second counts, by its CPU time: other programs on the machine leave that the same but for the caches and
the memory bus that they share. Where the reference is measured in every tenth step only, the recipe's default here, a
tenth of what it took the first step is added. What runs beside the step in processes of its own, the verifier's
comparisons, is in none of the numbers. ``peak_gb`` is the most memory that the process ever held, loading included.

Prints tables and writes ``benchmarks/results/real.json``. ``--quick`` does all but the older commit on the embedded
model, in a minute, most of it in one process, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "real.json"
PROMPTS, SAMPLES, PROMPT_TOKENS, LEARNING_RATE = 8, 8, 40, 1e-5
BESIDE = ("samples a prompt, embedded", "samples a prompt, smollm2")
PARTS = ("step of 10", "step of 48", "one pass", "engines", *BESIDE)  # tokens a response
GROUPS = (16, 64)  # samples a prompt of the last parts, whose steps have as many rows as those of 8
PASSES = {"two passes": "never", "one pass": "always"}
SMALL_MICROBATCH = 512  # tokens, so that a step of SmolLM2 takes several
ROUNDS_OF_ENGINE = 3
ALONE = ("4 tokens, this commit",)  # of a rehearsal, whose others spare themselves the imports
DEFAULTS = "older commit over this one, each as it is by default"
Job = dict[str, Any]


def learner_of(job: Job) -> tuple[Any, Any]:
    """Return a trainer and the dtype of its passes; a ``length`` of None is what the model's settings are by default.

    Also run on the older package, so only what both have is used.
    """
    from sharpen.llm.configs.train import resolve
    from sharpen.llm.distributed.world import World
    from sharpen.llm.models import registry
    from sharpen.llm.rewards.firewall import reward_for
    from sharpen.llm.tasks.sources import load_source
    from sharpen.llm.training import setup, trainer
    from sharpen.objective import PRESETS

    changes = {
        "model": job["model"],
        "objective": PRESETS["task-reward"].to_dict(),
        "template": job["template"],
        "prompts_per_step": job["prompts"],
        "samples_per_prompt": job["samples"],
        "engine": "transformers",
    }
    if job["length"] is not None:
        changes |= {
            "max_length": job["prompt_tokens"] + job["length"],
            "ignore_eos": True,
            "tokens_per_microbatch": 4096,
            "optimizer": {"learning_rate": LEARNING_RATE, "warmup_steps": 0},
        }
    config = resolve(changes | job["settings"])
    made: Any = setup.prepare(config, registry.resolve(config.model), World())
    data = load_source(job["data"], "train")
    options = {"master": made.master} if getattr(made, "master", None) is not None else {}
    learner = trainer.Trainer(
        config,
        made.model,
        made.tokenizer,
        made.engine,
        data.prompts(),
        reward_for(config.objective, data, seed=0),
        job["template"],
        reference=made.reference,
        compute=made.compute,
        **options,
    )
    assert {len(ids) for ids in learner.prompt_ids} == {job["prompt_tokens"]}
    return learner, made.compute


def our_step(job: Job) -> dict[str, Any]:
    """Two steps of our trainer, the second counted."""
    import scipy.stats  # noqa: F401  # else within a step, where a metric first needs it

    from sharpen.llm.training import trainer

    learner, compute = learner_of(job)
    trainer.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]  # phases by CPU time
    steps = []
    for _ in range(2):
        start = time.process_time()
        record, _ = learner.step()
        steps.append({"cpu_seconds": time.process_time() - start, "phases": record["seconds"]})
        assert record["response_length"] == job["length"]
        assert record.get("one_pass") == job.get("path", record.get("one_pass"))
    learner.engine.close()
    every = getattr(learner.config, "reference_every", 1)
    reference = steps[0]["phases"]["logprobs"] - steps[1]["phases"]["logprobs"] if every > 1 else 0.0
    steps[1]["cpu_seconds"] += reference / every
    return {**steps[1], "first": steps[0], "dtype": str(compute).removeprefix("torch.")}


def trl_step(job: Job) -> dict[str, Any]:
    """Two steps of TRL's trainer, the second counted."""
    from datasets import Dataset
    from plain_rloo import plain_rloo
    from transformers import TrainerCallback
    from trl.trainer.rloo_trainer import RLOOTrainer

    from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
    from sharpen.llm.tasks.sources import load_source
    from sharpen.llm.tasks.templates import encode
    from sharpen.llm.tasks.verification.verify import Verifier

    source = resolve(job["model"])
    tokenizer, data, verifier = load_tokenizer(source), load_source(job["data"], "train"), Verifier()
    answers, rows, records = data.answers(), [], []
    for prompt in data.prompts().prompts:
        ids = encode(tokenizer, prompt.text, job["template"])
        text = tokenizer.decode(ids)
        assert tokenizer(text)["input_ids"] == ids  # the very tokens of our step
        rows.append({"prompt": text, "answer": answers[prompt.id]})

    def right(completions: list[str], answer: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        assert [len(ids) for ids in completion_ids] == [job["length"]] * job["prompts"] * job["samples"]
        return verifier(completions, answer)

    class Clock(TrainerCallback):
        start = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.process_time()

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            now = time.process_time()
            records.append({"cpu_seconds": now - self.start, "updates": state.global_step})
            self.start = now

    with tempfile.TemporaryDirectory() as folder:
        options = plain_rloo(
            folder,
            prompts=job["prompts"],
            samples=job["samples"],
            length=job["length"],
            steps=2,
            generation_kwargs={"min_new_tokens": job["length"]},
            learning_rate=LEARNING_RATE,
            bf16=job["dtype"] == "bfloat16",
            seed=0,
        )
        trainer = RLOOTrainer(
            model=load_model(source, "cpu", "float32"),
            reward_funcs=right,  # pyright: ignore[reportArgumentType]
            args=options,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    verifier.close()
    assert [record["updates"] for record in records] == [1, 2]
    return {"cpu_seconds": records[1]["cpu_seconds"], "first": records[0], "dtype": job["dtype"]}


def sampled(job: Job) -> dict[str, Any]:
    """Tokens a second of CPU time of one engine."""
    from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
    from sharpen.llm.rollout import Sampling, make_engine
    from sharpen.llm.tasks.sources import load_source
    from sharpen.llm.tasks.templates import encode

    source = resolve(job["model"])
    tokenizer, model = load_tokenizer(source), load_model(source, "cpu", job["dtype"]).eval()
    texts = [prompt.text for prompt in load_source(job["data"], "train").prompts().prompts]
    prompts = [encode(tokenizer, text, job["template"]) for text in texts[: job["prompts"]]]
    engine = make_engine(
        job["engine"],
        model=model,
        location=source.location,
        max_length=job["prompt_tokens"] + job["length"],
        seed=0,
        tokenizer=tokenizer,
        dtype=job["dtype"],
    )
    rates = []
    for turn in range(ROUNDS_OF_ENGINE + 1):
        start = time.process_time()
        rollout = engine.generate(prompts, job["samples"], Sampling(job["length"], ignore_eos=True), turn)
        rates.append(sum(map(len, rollout.response_ids)) / (time.process_time() - start))
    engine.close()
    return {"tokens_per_cpu_second": statistics.median(rates[1:]), "all": rates[1:], "dtype": job["dtype"]}


WORK = {"step": our_step, "trl": trl_step, "engine": sampled}


def measured(name: str, job: Job, package: Path) -> dict[str, Any]:
    """Run one measurement in a process that imports ``sharpen`` from a checkout; a rehearsal's later ones in this."""
    found = work(job) if job.get("here", False) and name not in ALONE else apart(name, job, package)
    print(f"{name:34} {json.dumps({key: found[key] for key in found if key != 'first'})}", file=sys.stderr, flush=True)
    return found


def apart(name: str, job: Job, package: Path) -> dict[str, Any]:
    paths = [str(package / ".pyright"), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, __file__, "--job", json.dumps({**job, "answer": str(answer)})]
        done = subprocess.run(
            command, env=variables, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{name}: status {done.returncode}, {done.stderr[-2000:]}")
        return json.loads(answer.read_text())


def work(job: Job) -> dict[str, Any]:
    found = WORK[job["work"]](job)
    return found | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


@contextmanager
def older_commit(commit: str) -> Iterator[Path]:
    """Check a commit out beside this one; its package is imported from there."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "older"
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def write_problems(folder: Path, tokenizer: Any) -> tuple[str, str]:
    """Write sums whose prompts have exactly ``PROMPT_TOKENS`` tokens, and a template; return both files."""
    from sharpen.llm.tasks.templates import encode

    template, data = folder / "bare.txt", folder / "sums.jsonl"
    template.write_text("{problem}")
    rows = []
    for a in range(11, 11 + 4 * PROMPTS):
        text = f"{a} + {100 - a} ="
        while (tokens := len(encode(tokenizer, text, str(template)))) < PROMPT_TOKENS:
            text = f"now {text}"
        assert tokens == PROMPT_TOKENS, (text, tokens)
        rows.append({"id": f"sum-{a}", "problem": text, "answer": str(100)})
    data.write_text("\n".join(map(json.dumps, rows)))
    return str(data), str(template)


def embedded_task() -> Job:
    """Return the embedded model and its problems, whose prompts all have the same number of tokens."""
    from sharpen.llm.models.registry import load_tokenizer, resolve
    from sharpen.llm.tasks.sources import load_source
    from sharpen.llm.tasks.templates import encode

    first = load_source("embedded", "train").prompts().prompts[0]
    tokens = len(encode(load_tokenizer(resolve("embedded")), first.text, "plain"))
    return {"model": "embedded", "data": "embedded", "template": "plain", "prompt_tokens": tokens}


def arms(common: Job, older: Path | None, folder: str) -> dict[str, tuple[Job, Path]]:
    """Return each arm's job and checkout, in order."""
    step = {**common, "work": "step", "settings": {}}
    plain = {"model": folder, "settings": {"dtype": "float32"}}
    found = {"this commit": (step, ROOT), "this commit, float32": ({**step, **plain}, ROOT)}
    if older is not None:
        found["older commit"] = ({**step, **plain}, older)
    if find_spec("trl") is not None:
        for dtype in ("bfloat16", "float32"):
            found[f"TRL, {dtype}"] = ({**common, "work": "trl", "dtype": dtype}, ROOT)
    return found


def in_turn(names: Iterable[str], rounds: int) -> Iterator[str]:
    """Yield each name once a round, in reversed order every other round."""
    for turn in range(rounds):
        yield from list(names)[:: -1 if turn % 2 else 1]


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return medians over the rounds."""
    phases = {name: statistics.median(one["phases"][name] for one in found) for name in found[0].get("phases", {})}
    return {
        "cpu_seconds": statistics.median(one["cpu_seconds"] for one in found),
        "rounds": [one["cpu_seconds"] for one in found],
        "first_step": statistics.median(one["first"]["cpu_seconds"] for one in found),
        "peak_gb": max(one["peak_gb"] for one in found),
        "dtype": found[0]["dtype"],
        "phases": phases,
    }


def steps(common: Job, rounds: int, older: Path | None, folder: str) -> dict[str, Any]:
    """Measure every arm, and their ratios within rounds."""
    plan = arms(common, older, folder)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in plan}
    for name in in_turn(plan, rounds):
        runs[name].append(measured(f"{common['length']} tokens, {name}", *plan[name]))
    own = {name: [one["cpu_seconds"] for one in runs[name]] for name in runs}
    pairs = {
        DEFAULTS: ("older commit", "this commit"),
        "older commit over this one, both float32": ("older commit", "this commit, float32"),
        "TRL over this commit, both bfloat16": ("TRL, bfloat16", "this commit"),
        "TRL over this commit, both float32": ("TRL, float32", "this commit, float32"),
    }
    ratios = {
        name: statistics.median(a / b for a, b in zip(own[slow], own[fast], strict=True))
        for name, (slow, fast) in pairs.items()
        if slow in own and (name == DEFAULTS or runs[slow][0]["dtype"] == runs[fast][0]["dtype"])
    }
    return {"arms": {name: summary(runs[name]) for name in runs}, "cpu_time_ratios": ratios}


def passes(common: Job, rounds: int) -> dict[str, Any]:
    """Measure a step in one pass against one in two."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in PASSES}
    for name in in_turn(PASSES, rounds):
        settings = {"graph_tokens": 0, "one_pass": PASSES[name], **common["settings"]}
        job = {**common, "work": "step", "settings": settings, "path": "groups" if name == "one pass" else "no"}
        runs[name].append(measured(f"{common['model']}, {name}", job, ROOT))
    trainer = {name: [one["phases"]["logprobs"] + one["phases"]["update"] for one in runs[name]] for name in runs}
    step = {name: [one["cpu_seconds"] for one in runs[name]] for name in runs}
    ratios = {
        f"two passes over one, {what}": statistics.median(
            a / b for a, b in zip(own["two passes"], own["one pass"], strict=True)
        )
        for what, own in (("scoring and update", trainer), ("step", step))
    }
    sizes = {name: common[name] for name in ("prompts", "samples", "prompt_tokens", "length", "settings")}
    return {**sizes, "arms": {name: summary(runs[name]) for name in runs}, "cpu_time_ratios": ratios}


def engines(common: Job, rounds: int, dtype: str) -> dict[str, Any]:
    names = ["transformers", *(["vllm"] if find_spec("vllm") is not None else [])]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for name in in_turn(names, rounds):
        job = {**common, "work": "engine", "engine": name, "dtype": dtype}
        runs[name].append(measured(f"engine {name}", job, ROOT))
    rates = {name: [one["tokens_per_cpu_second"] for one in runs[name]] for name in names}
    found: dict[str, Any] = {
        name: {
            "tokens_per_cpu_second": statistics.median(rates[name]),
            "rounds": rates[name],
            "peak_gb": max(one["peak_gb"] for one in runs[name]),
        }
        for name in names
    }
    if "vllm" in rates:
        ratio = statistics.median(a / b for a, b in zip(rates["vllm"], rates["transformers"], strict=True))
        found["vllm_over_transformers"] = ratio
    return found


def groups(common: Job, rounds: int) -> dict[str, Any]:
    """Measure steps of this commit and TRL's with other numbers of samples a prompt, at one number of rows."""
    from sharpen.llm.distributed.placement import gains_by_bfloat16

    dtype = "bfloat16" if gains_by_bfloat16(common["model"]) else "float32"
    found: dict[str, Any] = {}
    for samples in GROUPS:
        sizes = {**common, "prompts": common["prompts"] * common["samples"] // samples, "samples": samples}
        settings = {"dtype": dtype, "reference_every": 10}
        plan = {"this commit": {**sizes, "work": "step", "settings": settings}}
        plan["TRL"] = {**sizes, "work": "trl", "dtype": dtype}
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in plan}
        for name in in_turn(plan, rounds):
            runs[name].append(measured(f"{common['model']}, {samples} samples, {name}", plan[name], ROOT))
        pairs = zip(runs["TRL"], runs["this commit"], strict=True)
        ratio = statistics.median(theirs["cpu_seconds"] / ours["cpu_seconds"] for theirs, ours in pairs)
        found[str(samples)] = {
            **{name: sizes[name] for name in ("prompts", "samples", "length")},
            "arms": {name: summary(runs[name]) for name in runs},
            "cpu_time_ratios": {"TRL over this commit": ratio},
        }
    return found


def show(part: str, found: dict[str, Any]) -> None:
    """Print a part's table."""
    if part == "engines":
        print(json.dumps(found, indent=1), flush=True)
        return
    if part == "one pass" or part in BESIDE:
        for name, own in found.items():
            show(f"{part}: {name}", own)
        return
    print(f"\n{part}\n| | CPU s | peak GB | phases |\n| --- | --- | --- | --- |")
    for name, arm in found["arms"].items():
        phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in arm["phases"].items() if phase != "total")
        print(f"| {name} ({arm['dtype']}) | {arm['cpu_seconds']:.1f} | {arm['peak_gb']:.1f} | {phases} |")
    for name, ratio in found["cpu_time_ratios"].items():
        print(f"{name}: {ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", default="6e0eb1c", help="older commit")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=PARTS, nargs="+", help="measure these parts and keep the others' results")
    parser.add_argument("--quick", action="store_true", help="on the embedded model, without the older commit")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job is not None:
        job = json.loads(given.job)
        Path(job["answer"]).write_text(json.dumps(work(job)))
        return
    from sharpen.llm.models.registry import artifact_path, load_tokenizer, resolve
    from sharpen.llm.models.store import folder_of
    from sharpen.objective.storage import files, runfolder

    sizes = {"prompts": PROMPTS, "samples": SAMPLES, "prompt_tokens": PROMPT_TOKENS}
    if given.quick:
        common = {**embedded_task(), "prompts": 2, "samples": 2, "length": 4, "here": True}
        show("step of 4", steps(common, 1, None, str(artifact_path())))
        show("one pass", {"embedded": passes({**common, "settings": {}}, 1)})
        show("engines", engines(common, 1, "float32"))
        return
    source = resolve("smollm2")
    model = folder_of(source.location)
    with tempfile.TemporaryDirectory() as folder, older_commit(given.against) as older:
        data, template = write_problems(Path(folder), load_tokenizer(source))
        common = {**sizes, "model": source.name, "data": data, "template": template}
        for part in given.only or PARTS:
            where, load = runfolder.provenance(), os.getloadavg()
            if part == "one pass":
                small = embedded_task() | {"prompts": 32, "samples": 8, "length": 48, "settings": {}}
                real = {**common, "length": 10, "settings": {"tokens_per_microbatch": SMALL_MICROBATCH}}
                found = {name: passes(job, given.rounds) for name, job in (("embedded", small), ("smollm2", real))}
            elif part == "engines":
                found = engines({**common, "length": 48}, given.rounds, "bfloat16")
            elif part in BESIDE:
                small = embedded_task() | {"prompts": 32, "samples": 8, "length": 16}
                job = small if "embedded" in part else {**common, "length": 10}
                found = groups(job, given.rounds)
            else:
                job = {**common, "length": int(part.rpartition(" ")[2])}
                found = {"against": given.against, **steps(job, given.rounds, older, model)}
            show(part, found)
            about = {name: where[name] for name in ("command", "started", "commit", "machine")}
            about |= {"threads": 1, "rounds": given.rounds, "load": [load, os.getloadavg()]}
            kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
            files.write(RESULT, json.dumps({**kept, part: {**found, "measured": about}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
