"""``sharpen llm train``: the objective on a language model, by any learner, on one process or many."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.llm.settings import CHAT_OPTION, LONG_PROMPTS, TEMPLATE, assigned, chat_options, put
from sharpen.cli.llm.train_output import print_result, progress
from sharpen.cli.shared import options
from sharpen.cli.shared.errors import fail
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.llm.configs.train import TrainConfig

RUN, ROLLOUT, LEARNER, REWARD = "Run", "Rollout", "Learner", "Reward"
SCALE, EVALUATION = "Memory and several processes", "Final evaluation"


def _flag(panel: str, help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel)


@dataclass(frozen=True)
class RunFlags:
    """Length, data and seeds of a run."""

    steps: Annotated[int | None, _flag(RUN, "Updates (embedded 100, smollm2 40, qwen3-4b 1000, else 500).")] = None
    seed: Annotated[int | None, _flag(RUN, "Seed of prompts and samples.")] = None
    checkpoint_every: Annotated[int | None, _flag(RUN, "Updates between checkpoints.")] = None
    task: Annotated[str | None, _flag(RUN, "Train, choose and measure on the parts of one task.")] = None
    data: Annotated[str | None, _flag(RUN, "embedded, math, gsm8k, deepscaler, …, or a file or folder.")] = None
    split: Annotated[str | None, _flag(RUN, "Part of the data.")] = None
    problems: Annotated[int | None, _flag(RUN, "Use only N training problems.")] = None
    template: Annotated[str | None, _flag(RUN, TEMPLATE)] = None
    chat_option: Annotated[
        list[str] | None, typer.Option(help=CHAT_OPTION, metavar="NAME=VALUE", rich_help_panel=RUN)
    ] = None
    long_prompts: Annotated[str | None, _flag(RUN, LONG_PROMPTS)] = None
    tracker: Annotated[
        list[str] | None,
        _flag(RUN, "tensorboard (the default), wandb, trackio, or your own as module:object; repeatable."),
    ] = None
    wandb: Annotated[str | None, _flag(RUN, "Project at Weights & Biases that gets the metrics too.")] = None


@dataclass(frozen=True)
class RolloutFlags:
    """How responses are sampled."""

    prompts_per_step: Annotated[
        int | None, _flag(ROLLOUT, "Prompts per update, over all processes (32; smollm2 8, qwen3-4b 64).")
    ] = None
    samples_per_prompt: Annotated[int | None, _flag(ROLLOUT, "Samples per prompt, at least 2 (8).")] = None
    max_length: Annotated[int | None, _flag(ROLLOUT, "Prompt and response, in tokens.")] = None
    ignore_eos: Annotated[bool | None, _flag(ROLLOUT, "Fixed-length training.", "--ignore-eos")] = None
    temperature: Annotated[float | None, _flag(ROLLOUT, "Of the rollouts; not 1 for tb and tb-batch only.")] = None
    engine: Annotated[str | None, _flag(ROLLOUT, "auto (the quicker one installed), vllm or transformers.")] = None
    engine_memory: Annotated[float | None, _flag(ROLLOUT, "Share of GPU memory for vLLM.")] = None
    engine_sleep: Annotated[
        bool | None, _flag(ROLLOUT, "vLLM gives its memory back in the update.", "--engine-sleep/--no-engine-sleep")
    ] = None
    tensor_parallel: Annotated[int | None, _flag(ROLLOUT, "Processes that share one vLLM engine.")] = None


@dataclass(frozen=True)
class LearnerFlags:
    """How the policy is moved."""

    learner: Annotated[
        str | None,
        _flag(
            LEARNER,
            "rloo, reinforce, grpo, ppo, dapo, unlikeliness, tb, tb-batch, best-of-n, dr-grpo, gspo, cispo, maxrl, "
            "maxrl-order-g, pass-k, nsr, w-reinforce, power-distillation, alpha-divergence, f-divergence, "
            "entropy-bonus, adaptive-entropy, or your own as module:object.",
        ),
    ] = None
    kl: Annotated[str | None, _flag(LEARNER, "Estimator and place of the KL: k1-reward, k2-loss, k3-loss, …")] = None
    epochs: Annotated[int | None, _flag(LEARNER, "Updates on one rollout batch; 4 for ppo.")] = None
    clip_low: Annotated[float | None, _flag(LEARNER, "Lower clip of PPO's ratio.")] = None
    clip_high: Annotated[float | None, _flag(LEARNER, "Upper clip of PPO's ratio.")] = None
    aggregation: Annotated[str | None, _flag(LEARNER, "token_mean (the paper), sequence_mean or response_mean.")] = None
    importance: Annotated[str | None, _flag(LEARNER, "Sampler-trainer weights: token, sequence or none.")] = None
    importance_cap: Annotated[float | None, _flag(LEARNER, "Cap of these weights (20).")] = None
    learning_rate: Annotated[
        float | None, _flag(LEARNER, "AdamW's rate after warm-up (embedded 3e-4, smollm2 1e-5, else 1e-6).")
    ] = None
    warmup_steps: Annotated[int | None, _flag(LEARNER, "Updates of warm-up.")] = None
    weight_decay: Annotated[float | None, _flag(LEARNER, "AdamW's weight decay (0.01).")] = None
    gradient_clip: Annotated[float | None, _flag(LEARNER, "Largest norm of the gradient.")] = None


@dataclass(frozen=True)
class RewardFlags:
    """What the objective's reward term is."""

    reward: Annotated[
        str | None,
        _flag(REWARD, "task, inverted, noisy, format, length, majority, self_certainty, negative_entropy or random."),
    ] = None
    reward_target: Annotated[int | None, _flag(REWARD, "length: tokens of full reward.")] = None
    reward_prefer: Annotated[str | None, _flag(REWARD, "length: long or short.")] = None
    reward_probability: Annotated[float | None, _flag(REWARD, "random: chance of reward 1.")] = None


@dataclass(frozen=True)
class ScaleFlags:
    """What fits where."""

    device: Annotated[str | None, _flag(SCALE, "auto, cpu or cuda.")] = None
    dtype: Annotated[str | None, _flag(SCALE, "Of the passes: auto, float32 or bfloat16.")] = None
    microbatch_tokens: Annotated[int | None, _flag(SCALE, "Tokens of one forward and backward pass.")] = None
    activation_checkpointing: Annotated[
        bool | None, _flag(SCALE, "Compute activations again in the backward pass.", "--activation-checkpointing")
    ] = None
    lora_rank: Annotated[int | None, _flag(SCALE, "Train adapters of this rank only.")] = None
    lora_alpha: Annotated[float | None, _flag(SCALE, "Scale of the adapters, times 1/rank.")] = None
    shard: Annotated[str | None, _flag(SCALE, "FSDP2: auto, always or never.")] = None
    reference_offload: Annotated[
        bool | None, _flag(SCALE, "Keep the sharded reference in the machine's memory.", "--reference-offload")
    ] = None


@dataclass(frozen=True)
class EvaluationFlags:
    """What is measured in the end."""

    eval_problems: Annotated[int | None, _flag(EVALUATION, "Problems of the evaluation after training.")] = None
    eval_samples: Annotated[int | None, _flag(EVALUATION, "Samples of each of them.")] = None
    eval_data: Annotated[str | None, _flag(EVALUATION, "Data of the evaluation, as --data.")] = None
    eval_split: Annotated[str | None, _flag(EVALUATION, "Part of these data.")] = None
    eval_selection_data: Annotated[str | None, _flag(EVALUATION, "Where the best checkpoint is chosen.")] = None
    eval_selection_split: Annotated[str | None, _flag(EVALUATION, "Part of them.")] = None
    eval_choose_by: Annotated[
        str | None, _flag(EVALUATION, "What makes it the best: pass@1 (with labels), objective, or last.")
    ] = None


# Settings that are not a field of the same name at the top of TrainConfig.
PLACES = {
    "tracker": "trackers",
    "chat_option": "chat_options",
    "learner": "learner.kind",
    "microbatch_tokens": "tokens_per_microbatch",
    "activation_checkpointing": "gradient_checkpointing",
    "reward": "reward.kind",
    **{name: f"learner.{name}" for name in ("kl", "epochs", "clip_low", "clip_high")},
    **{name: f"optimizer.{name}" for name in ("learning_rate", "warmup_steps", "weight_decay", "gradient_clip")},
    **{f"reward_{name}": f"reward.{name}" for name in ("target", "prefer", "probability")},
    **{f"lora_{name}": f"lora.{name}" for name in ("rank", "alpha")},
    **{f"eval_{name}": f"evaluation.{name}" for name in ("problems", "samples", "data", "split")},
    **{f"eval_{name}": f"evaluation.{name}" for name in ("selection_data", "selection_split", "choose_by")},
}


def register(app: typer.Typer) -> None:
    """Add the commands to the llm group."""
    app.command("train")(train)
    app.command("recipes")(recipes)


@options.flat
def train(
    chosen: options.ObjectiveFlags,
    run: RunFlags,
    rollout: RolloutFlags,
    learn: LearnerFlags,
    reward: RewardFlags,
    scale: ScaleFlags,
    evaluation: EvaluationFlags,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; the same command continues it.", show_default="runs/<model>-<preset>"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="embedded (the default), smollm2, qwen2.5-3b, …, a hub id, a folder or a GGUF file."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="One of the paper's runs, as `sharpen llm recipes` lists them.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML or JSON file of settings; flags change it.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, as optimizer.beta2=0.95; repeatable.", metavar="NAME=VALUE"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print settings, memory and token budget; train nothing.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(help="For --dry-run: of how many processes; default: of this launch.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="For --dry-run: on this GPU (h100, h200, b200, a100, a100-40, l40s, 4090, 3090).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete an earlier run in --out first.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print evaluation.json (or the plan) on stdout.")] = False,
) -> None:
    """Train on the objective, then evaluate base, last and best checkpoints.

    Without --model this trains the embedded arithmetic model, in minutes on two cores. A run whose objective has no
    reward term (sharpening, tempered) never opens the answers before training has ended. Under torchrun the
    processes train together.
    """
    require_packages()
    flags: dict[str, Any] = {"model": model}
    for group in (run, rollout, learn, reward, scale, evaluation):
        flags |= asdict(group)
    settings = resolved(chosen, given(flags), recipe, config, set_ or [])
    if processes is not None and not dry_run:
        fail(f"processes: got {processes}, allowed: with --dry-run only; torchrun starts several processes")
    if gpu is not None and not dry_run:
        fail(f"gpu: got {gpu}, allowed: with --dry-run only; --device says where a run computes")
    if dry_run:
        _plan(settings, processes, gpu, json_output)
    else:
        _train(settings, out or default_folder(settings), force, json_output)


def default_folder(config: TrainConfig) -> Path:
    """Return the run folder unless the user names one."""
    from sharpen.llm.configs.recipes import folder_name

    named = folder_name(config.model, config.objective, fixed=config.ignore_eos, reward=config.reward.kind)
    return Path("runs") / named


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the flags that were given as settings; ``--task`` stands for several.

    Raises:
        InputError: ``--task`` beside data, or an argument of the chat format that is none.
    """
    from sharpen.llm.configs.train import merge, whole_task

    own = {name: flag for name, flag in flags.items() if name != "task"}
    options.refuse_with("task", flags["task"], "data", own["data"])
    options.refuse_with("task", flags["task"], "eval-data", own["eval_data"])
    changes = {} if flags["task"] is None else whole_task(flags["task"])
    own["chat_option"] = chat_options(flags["chat_option"]) if flags["chat_option"] else None
    return merge(changes, nested(own))


def nested(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the flags that were given, each at its place in the settings."""
    changes: dict[str, Any] = {}
    for name, given in flags.items():
        if given is not None:
            put(changes, PLACES.get(name, name), given)
    return changes


def resolved(
    chosen: options.ObjectiveFlags, flags: dict[str, Any], recipe: str | None, file: Path | None, assignments: list[str]
) -> TrainConfig:
    """Return the settings: the model's, then the recipe's, then the file's, then the flags', then ``--set``'s.

    Raises:
        InputError: recipe, file or an assignment cannot be read, or a setting would have no effect.
        pydantic.ValidationError: a setting is out of range.
    """
    from sharpen.llm.configs import idle, recipes
    from sharpen.llm.configs import train as config

    changes = recipes.load(recipe) if recipe is not None else {}
    in_file = config.load_changes(str(file)) if file is not None else {}
    changes = config.merge(changes, in_file)
    given = idle.named(flags)
    if chosen.any_given() or "objective" not in changes:
        flags["objective"] = chosen.build(default="task-reward").to_dict()
    changes = config.merge(changes, flags)
    for one in map(assigned, assignments):
        given += idle.named(one)
        changes = config.merge(changes, one, whole=())
    settings = config.resolve(changes)
    idle.refuse_idle(settings, [*given, *idle.departures(settings, in_file)], idle.TRAIN)
    return settings


def _train(config: TrainConfig, out: Path, force: bool, as_json: bool) -> None:
    from transformers.utils import logging  # imports torch: only once the settings have proved valid

    from sharpen.llm.distributed.world import launched
    from sharpen.llm.training.run import train as run_training

    logging.disable_progress_bar()  # it draws one for every checkpoint
    result = run_training(config, out, force=force, report=progress(config.steps))
    if not launched().first:
        return
    if as_json:
        import json

        say(json.dumps(result))
    else:
        print_result(result, out)


def _plan(config: TrainConfig, processes: int | None, gpu: str | None, as_json: bool) -> None:
    from sharpen.llm.distributed.fit import too_large
    from sharpen.llm.distributed.plan import plan
    from sharpen.llm.distributed.world import World, launched
    from sharpen.llm.preflight.checks import for_plan
    from sharpen.llm.preflight.findings import lines
    from sharpen.llm.preflight.machine import no_gpu

    world = launched()
    if processes is not None and processes < 1:
        fail(f"processes: got {processes}, allowed: a whole number >= 1")
    found = plan(config, processes or world.size, gpu)
    if not world.first:
        return
    large = too_large(found)
    missing = [*([] if large is None else [large]), *for_plan(config, World(0, processes or world.size))]
    here = no_gpu()
    assumed = found.device == "cuda" and here is not None
    if as_json:
        import json

        told = {"device_assumed": assumed, "missing_here": [str(error) for error in missing]}
        say(json.dumps(found.to_dict() | told, allow_nan=False))
        return
    say(found.text())
    if assumed:
        say(f"\n# a GPU is assumed, and this machine has none: {here}\n# --device cpu plans for its CPU")
    if missing:
        say(f"\n# {len(missing)} thing{'s' * (len(missing) > 1)} missing or wrong for a start on this machine")
        say("\n".join(f"# {line}" for line in lines(missing)))


def recipes(
    model: Annotated[str | None, typer.Option(help="Recipes of this model only.")] = None,
    write: Annotated[Path | None, typer.Option(help="Write each as a file of settings in this folder.")] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """List the paper's runs by name, for `sharpen llm train --recipe NAME`."""
    import json

    from sharpen.llm.configs import recipes as grid

    options.refuse_with("json", json_output, "write", write)
    names = grid.names(model)
    if not names:
        allowed = [name for name in grid.grid()["models"] if grid.names(name)]
        fail(f"model: got {model!r}, allowed: {', '.join(allowed)}")
    if write is not None:
        written = grid.write(write, model)
        say(f"wrote {len(written)} files in {write}", file=sys.stderr)
    elif json_output:
        say(json.dumps(names))
    else:
        say("\n".join(names))
