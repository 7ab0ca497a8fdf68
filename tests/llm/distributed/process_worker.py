"""Steps of every learner in one process, in two and in three; test_processes_agree.py compares them.

:func:`main` writes to 1.json, 2.json and 3.json, by case, the metrics of each step, how far the weights have moved, and
the numbers of microbatches.

What a learner sums over processes does not hang on the depth of the model: RLOO trains all of the embedded model's
layers, the others its first one.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed.sharding import is_sharded
from sharpen.llm.distributed.world import World, disconnect, launched
from sharpen.llm.models.logprobs import make_batches
from sharpen.llm.models.registry import ModelSource, load_model, load_tokenizer
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.llm.models.weights import copy_of, own_part
from sharpen.llm.rewards.firewall import BoundReward, Scoring
from sharpen.llm.rollout import Rollout, Sampling
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training import setup as preparing
from sharpen.llm.training.trainer import Trainer
from tests.llm.distributed.forks import together

LEARNERS: dict[str, dict[str, Any]] = {
    **{kind: {"kind": kind} for kind in ("rloo", "reinforce", "grpo", "ppo", "unlikeliness", "best-of-n")},
    "dapo": {"kind": "dapo", "dynamic_rounds": 2},
    "tb": {"kind": "tb", "epochs": 2},
    "tb-batch": {"kind": "tb-batch", "epochs": 2},
}
PROMPTS, SAMPLES, LONGEST, MICROBATCH = 6, 4, 64, 112
# Response tokens of each prompt, a rollout each: of two processes and of three one makes 1, 2 and 5 microbatches more
# than another. A microbatch holds eight of the shortest rows, all that one of three processes has, and one of the
# longest: no smaller numbers of microbatches differ by as much.
LENGTHS = ((8, 6, 3, 3, 3, 3), (3, 3, 3, 3, 8, 18), (46, 18, 3, 3, 3, 3))
# Plain steps instead of Adam's: with a large epsilon a weight moves by its gradient. With a small one it moves by the
# gradient over its own size, which makes a whole step of what rounding leaves where the gradient is zero.
SMOOTH = {"epsilon": 1.0, "learning_rate": 0.03, "warmup_steps": 0, "weight_decay": 0.0}
BOUNDED = {"kind": "sgd", "learning_rate": 1.0, "warmup_steps": 0, "max_kl": 1e-3}
SMALL = {
    "prompts_per_step": PROMPTS,
    "samples_per_prompt": SAMPLES,
    "max_length": LONGEST,
    "tokens_per_microbatch": MICROBATCH,
    "graph_tokens": 0,
    "optimizer": SMOOTH,
}
# The first layer alone knows no end: a limit of about the length of the embedded model's responses.
SHORT = {"max_length": 24, "tokens_per_microbatch": 1024}

# A window holds a group of the longest responses, or several of shorter ones.
ONE_PASS = {**SMALL, "one_pass": "always", "tokens_per_microbatch": SAMPLES * LONGEST, "learner": LEARNERS["rloo"]}


@dataclasses.dataclass
class FixedLengths:
    """The engine, made to give the responses to each place in the whole batch a length, another one each time."""

    inner: Any
    world: World
    name: str = "transformers"
    passes: list[int] = dataclasses.field(default_factory=list)

    def generate(
        self, prompts: list[list[int]], samples: int, sampling: Sampling, seed: int, **options: Any
    ) -> Rollout:
        """Return responses of the given lengths."""
        lengths = LENGTHS[len(self.passes) % len(LENGTHS)]
        limits = [lengths[place] for place in self.world.part(PROMPTS)]
        fixed = dataclasses.replace(sampling, ignore_eos=True)
        rollout = self.inner.generate(prompts, samples, fixed, seed, limits=limits, **options)
        rows = (rollout.prompt_ids, rollout.response_ids)
        self.passes.append(len(make_batches(*rows, micro_batch_tokens=MICROBATCH)))
        return rollout

    def push_weights(self, model: Any) -> None:
        """As the engine does."""
        self.inner.push_weights(model)

    def sleep(self) -> None:
        """As the engine does."""

    def close(self) -> None:
        """As the engine does."""
        self.inner.close()


@dataclasses.dataclass
class RewardByPlace:
    """A reward of a row's place in the whole batch: of some prompts 0 or 1, of the others 1 alone."""

    mixed: Sequence[int] | None
    kind: str = "task"
    reads_entropies: bool = False

    def __call__(
        self, prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring | None = None
    ) -> list[float]:
        """Return one reward a response."""
        assert scoring is not None
        assert scoring.rows is not None
        return [self.of(*divmod(row, SAMPLES)) for row in scoring.rows]

    def of(self, place: int, sample: int) -> float:
        """Return the reward of one sample of the prompt at one place."""
        differs = self.mixed is None or place in self.mixed
        return float((sample + place) % 3 == 0) if differs else 1.0


def first_layer(folder: Path) -> ModelSource:
    """Write the embedded model with the first of its layers alone."""
    whole = resolve_model("embedded")
    place, cut = Path(whole.location), folder / "first-layer"
    cut.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(place / name, cut)
    fields = json.loads((place / "config.json").read_text(encoding="utf-8"))
    fields |= {"num_hidden_layers": 1, "layer_types": fields["layer_types"][:1]}
    (cut / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    weights = load_file(place / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if ".layers." not in name or ".layers.0." in name}
    save_file(kept, cut / "model.safetensors", {"format": "pt"})
    return dataclasses.replace(whole, location=str(cut))


def load_once(*sources: ModelSource) -> None:
    """Let every case begin with a copy of what is loaded here."""
    models = {source.location: load_model(source, "cpu", "float32") for source in sources}
    tokenizers = {source.location: load_tokenizer(source) for source in sources}
    preparing.load_model = lambda source, *_: copy_of(models[source.location])
    preparing.load_tokenizer = lambda source: tokenizers[source.location]


def configured(settings: dict[str, Any]) -> TrainConfig:
    """Return the settings of one case."""
    return resolve({"objective": {"alpha": 2.0, "beta_inv": 4.0}, "engine": "transformers", "seed": 3, **settings})


def run(
    settings: dict[str, Any], source: ModelSource, world: World, steps: int, mixed: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return what some steps of a fresh policy measure."""
    config = configured(settings)
    setup = preparing.prepare(config, source, world)
    weights = list(map(own_part, setup.model.parameters()))
    before = [weight.clone() for weight in weights]
    fixed = FixedLengths(setup.engine, world)
    trainer = Trainer(
        config,
        setup.model,
        setup.tokenizer,
        fixed if config.prompts_per_step == PROMPTS else setup.engine,
        load_source("embedded", "train", 64).prompts(),
        BoundReward("task", RewardByPlace(mixed), {}),
        setup.template,
        reference=setup.reference,
        world=world,
        compute=setup.compute,
    )
    records = [trainer.step()[0] for _ in range(steps)]
    square = sum(float((weight - old).square().sum()) for weight, old in zip(weights, before, strict=True))
    everyones = world.gather([square]) if is_sharded(setup.model) else [square]  # each has a part, or all have the same
    fixed.close()
    return {"records": records, "moved": sum(everyones) ** 0.5, "passes": world.gather([fixed.passes])}


def every_case(out: Path, cut: ModelSource) -> None:
    """Run every case of every learner; the first process writes what was found."""
    world = launched()
    whole = resolve_model("embedded")
    found = {}
    for name, learner in LEARNERS.items():
        source = whole if name == "rloo" else cut
        found[f"{name}, microbatches"] = run({**SMALL, "learner": learner}, source, world, len(LENGTHS))
        if name == "rloo":
            found[f"{name}, default settings"] = run({"learner": learner}, source, world, 2)
        elif world.size != 2:  # two processes share 32 prompts equally, which tells less for its time
            found[f"{name}, default settings"] = run({**SHORT, "learner": learner}, source, world, 1)
    for shard in ("auto", "never"):  # the weights divided, and whole in every process
        found[f"one pass, {shard}"] = run(ONE_PASS | {"shard": shard}, whole, world, len(LENGTHS))
    found["sgd within a bound"] = run({**SMALL, "optimizer": BOUNDED}, cut, world, len(LENGTHS))
    ahead = {"learner": LEARNERS["rloo"], "prompts_per_step": 4, "sample_ahead": 1}  # the real engine: lengths differ
    found["sampled ahead"] = run({**SMALL, **ahead, "steps": 3}, whole, world, 3)
    for case, mixed in (("one mixed group", (0,)), ("no mixed group", ())):
        found[f"dapo, {case}"] = run({**SMALL, "learner": LEARNERS["dapo"]}, cut, world, 2, mixed)
    if world.first:
        out.write_text(json.dumps(found), encoding="utf-8")
    disconnect()


def main(folder: Path) -> int:
    """Fork one process, then two, then three; return 1 if one of them failed."""
    cut = first_layer(folder)
    load_once(resolve_model("embedded"), cut)
    preparing.prepare(configured(SMALL), cut, World()).engine.close()  # what this imports, they have
    for size in (1, 2, 3):
        lives = together(size, lambda _, size=size: every_case(folder / f"{size}.json", cut), folder / f"life-{size}")
        if any(status for status, _, _ in lives):
            print(*(text for _, _, text in lives), sep="\n", file=sys.stderr)
            return 1
    return 0
