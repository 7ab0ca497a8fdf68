"""Settings of a training run, validated once and stored with its results."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from sharpen.llm.configs.asking import ChatOptions, LongPrompts
from sharpen.llm.configs.grid import model_settings
from sharpen.llm.configs.optimizer import OptimizerSettings
from sharpen.llm.learners.parts.learner import Learner, Matching
from sharpen.llm.learners.parts.registry import LEARNERS, make, those
from sharpen.llm.rewards.firewall import RewardConfig
from sharpen.llm.trackers.registry import TRACKERS, chosen
from sharpen.objective import PRESETS, InputError, Objective
from sharpen.objective.counts import least_samples
from sharpen.objective.settings import Seed, Settings, Text, is_as_written
from sharpen.objective.storage.reading import read_mapping

KLPlace = Literal["k1-reward", "k2-reward", "k3-reward", "k1-loss", "k2-loss", "k3-loss"]


class LearnerSettings(Settings):
    """How the policy is moved towards the objective; docs/llm.md has a table of the learners.

    What a learner's source names where that is not the default of the field stands with the learner
    (``Learner.published``); a value that is given goes before it.
    """

    kind: Annotated[Text, AfterValidator(LEARNERS.valid)] = Field(
        default="rloo", description="A learner's name, or module:object."
    )
    options: dict[str, Any] = Field(default={}, description="The learner's own parameters.")
    kl: KLPlace = Field(
        default="k1-reward",
        description="Estimator of the KL of policy and reference, and where it stands; k3-loss for GRPO if not given.",
    )
    epochs: int = Field(
        default=1, ge=1, le=64, description="Updates on one rollout batch; 4 for PPO if it is not given."
    )
    clip_low: float = Field(default=0.2, gt=0, lt=1, description="3e-4 for GSPO if it is not given.")
    clip_high: float | None = Field(
        default=None, gt=0, description="None takes 0.28 for DAPO, 4e-4 for GSPO, 4 for CISPO, otherwise 0.2."
    )
    rank_penalty: float = Field(default=0.25, ge=0, le=1, description="beta_rank of the unlikeliness reward.")
    dynamic_rounds: int = Field(
        default=4, ge=1, le=64, description="DAPO: most rollout rounds a step, until enough groups have mixed rewards."
    )

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, fields: Any) -> Any:
        learner = _named(fields)
        return fields if learner is None else {**learner.published, **fields} if isinstance(fields, dict) else fields

    @property
    def learner(self) -> Learner:
        """The learner itself, made anew."""
        return make(self.kind, self.options)

    @model_validator(mode="after")
    def _has_a_meaning(self) -> Self:
        learner = self.learner
        if self.epochs > 1 and not learner.several_epochs:
            several = those(lambda other: other.several_epochs)
            raise ValueError(f"epochs: got {self.epochs}, allowed: 1 for {self.kind}; several are for {several}")
        if self.kl not in learner.kl_places:
            raise ValueError(f"kl: got {self.kl!r}, allowed: {', '.join(learner.kl_places)} for {self.kind}")
        return self


def _named(fields: Any) -> Learner | None:
    """Return the learner of fields that nobody has validated yet; None where they name none."""
    if isinstance(fields, LearnerSettings):
        return fields.learner
    if not isinstance(fields, dict):
        return None
    kind, options = fields.get("kind"), fields.get("options", {})
    if not isinstance(kind, str) or not isinstance(options, dict):
        return None
    try:
        return make(kind, options)
    except InputError:  # validation will tell
        return None


class LoRASettings(Settings):
    """Low-rank adapters on every linear layer (Hu 2022), through peft."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0, description="The adapter is scaled by alpha / rank.")


class EvaluationSettings(Settings):
    """What is measured after training, on which problems; see ``llm/evaluation/ask.py``."""

    data: Text | None = Field(default=None, description="Data spec; None takes the model's default.")
    split: Text = "test"
    selection_data: Text | None = Field(default=None, description="Where the best checkpoint is chosen; None: data.")
    selection_split: Text = Field(default="validation", description="Its part.")
    choose_by: Literal["pass@1", "objective", "last"] = Field(
        default="pass@1",
        description="What the best checkpoint is best in: pass@1, which takes labels; the objective's value, which "
        "takes those of the reward only; or none, the last.",
    )
    problems: int = Field(default=200, ge=1)
    samples: int = Field(default=16, ge=1, le=1024)
    alpha_prompts: int = Field(
        default=64, ge=0, description="Prompts that the effective alpha is measured on, at most ``problems``."
    )


# What a stored run without these settings did, which had not been there yet.
BEFORE: dict[str, Any] = {"rollout_noise": "rows", "share_prompts": "never", "graph_tokens": 0, "one_pass": "never"}


class TrainConfig(Settings):
    """One training run. What is not given is the model's, see :func:`recipe`, as with ``sharpen llm train``.

    The defaults below are of models without a recipe; a group that is given as an object is taken whole.

    Raises:
        pydantic.ValidationError: a field is out of range.
    """

    model: Text = "embedded"
    objective: Objective = PRESETS["task-reward"]
    data: Text | None = Field(default=None, description="Training data spec; None takes the model's default.")
    split: Text = "train"
    problems: int | None = Field(default=None, ge=1, description="Use only so many training problems.")
    template: Text | None = Field(default=None, description="Prompt template; None takes the task's, or the model's.")
    chat_options: ChatOptions = Field(default={})
    long_prompts: LongPrompts = "drop"
    steps: int = Field(default=500, ge=1)
    prompts_per_step: int = Field(default=32, ge=1)
    samples_per_prompt: int = Field(default=8, ge=2, description="Leave-one-out needs at least two.")
    max_length: int = Field(default=2048, ge=2, description="Prompt and response together, in tokens.")
    ignore_eos: bool = Field(default=False, description="Fixed-length runs: go on after the end-of-sequence token.")
    aggregation: Literal["token_mean", "sequence_mean", "response_mean"] = Field(
        default="token_mean", description="What sums over tokens are divided by; response_mean for GRPO if not given."
    )
    learner: LearnerSettings = LearnerSettings()
    reward: RewardConfig = Field(default=RewardConfig(), description="What the objective's reward term is.")
    importance: Literal["token", "sequence", "none"] = Field(
        default="token", description="Level of the sampler-trainer importance weights."
    )
    importance_cap: float = Field(default=20.0, ge=1.0, description="Cap of the sampler-trainer importance weights.")
    optimizer: OptimizerSettings = OptimizerSettings()
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    engine_memory: float = Field(default=0.6, gt=0, lt=1, description="Share of GPU memory that vLLM may take.")
    engine_sleep: bool = Field(default=True, description="vLLM gives its GPU memory back during the update.")
    optimizer_offload: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="AdamW's moments lie in the machine's memory while vLLM samples on a GPU; auto: where a step's "
        "rows do not fit beside them.",
    )
    rollout_noise: Literal["auto", "rows", "batch"] = Field(
        default="auto",
        description="Whose generators rollouts draw from: each row's, so that a row is the same in any batch, or the "
        "batch's; auto: the batch's with vLLM on a GPU, whose fast samplers take no generators of rows.",
    )
    sample_ahead: int = Field(
        default=0,
        ge=0,
        le=1,
        description="1: while a step updates, the next one's batch is sampled, from the policy before the update; "
        "importance weights correct for that.",
    )
    engine_restarts: int = Field(default=2, ge=0, description="How often a step starts an engine that died again.")
    process_timeout: float = Field(
        default=1800.0,
        gt=0,
        le=604800,
        description="Seconds that processes wait for a slow one before the run ends. A run that goes on may have "
        "another.",
    )
    tensor_parallel: int = Field(default=1, ge=1, description="Processes that share one vLLM engine.")
    temperature: float = Field(
        default=1.0, ge=0.01, le=100.0, description="Of the rollouts; other than 1 for trajectory balance only."
    )
    engine_tolerance: float | None = Field(
        default=None,
        gt=0,
        description="How far log-probabilities of engine and trainer may be apart on nearly all tokens, nats, and a "
        "fifth of it on average; None: by dtype.",
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    lora: LoRASettings | None = Field(default=None, description="Train adapters only; None trains every weight.")
    shard: Literal["auto", "always", "never"] = Field(
        default="auto", description="FSDP2; auto: with several processes, or with a dtype other than the master copy's."
    )
    reference_offload: bool = Field(default=False, description="Keep a sharded reference in the machine's memory.")
    gradient_checkpointing: bool = Field(default=False, description="Compute activations again in the backward pass.")
    tokens_per_microbatch: int = Field(default=16384, ge=16)
    share_prompts: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Compute a prompt once for all its samples; auto: where that saves a tenth of the trainer's work, "
        "in models of ten million parameters or more.",
    )
    graph_tokens: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        default="auto",
        description="A step of at most so many padded tokens keeps the graph of its log-probabilities for the update, "
        "which saves a forward pass and takes the memory of so large a microbatch; not in sharded runs. auto: as many "
        "as take 2 GiB.",
    )
    one_pass: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Score and learn from whole groups in one pass, where one fits a microbatch, the learner's "
        "advantages are of one group alone, and the reward does not read entropies; auto: on a GPU, unless the padding "
        "costs more than a second pass.",
    )
    reference_every: int = Field(
        default=1,
        ge=1,
        description="Where the objective has no reference (task reward alone), measure the policy against it every so "
        "many steps only; the metrics of the others are null. A learner of one's own that reads it needs 1.",
    )
    checkpoint_every: int = Field(default=20, ge=1)
    seed: Seed = 42
    trackers: list[Annotated[Text, AfterValidator(TRACKERS.valid)]] = Field(
        default=["tensorboard"], description="Where the metrics go beside metrics.jsonl: names, or module:object."
    )
    tracker_options: dict[str, dict[str, Any]] = Field(default={}, description="Options of trackers, by their names.")
    wandb: Text | None = Field(default=None, description="Project at Weights & Biases that gets the metrics too.")
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="before")
    @classmethod
    def _of_its_model(cls, fields: Any, info: ValidationInfo) -> Any:
        if not isinstance(fields, dict):
            return fields
        return (
            {**BEFORE, **fields} if is_as_written(info) else merge(recipe(str(fields.get("model", "embedded"))), fields)
        )

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, fields: Any) -> Any:
        learner = _named(fields.get("learner")) if isinstance(fields, dict) else None
        if learner is None or learner.aggregation is None:
            return fields
        return {"aggregation": learner.aggregation, **fields}

    @property
    def tracking(self) -> dict[str, dict[str, Any]]:
        """The run's trackers by name, ``wandb`` among them where a project is named, and the options of each."""
        return chosen(self.trackers, self.tracker_options, self.wandb)

    @property
    def may_learn_by_group(self) -> bool:
        """Whether a group may be learned from before the others are scored, by what learner and reward declare."""
        learner = self.learner.learner
        reads = self.objective.needs_reward and self.reward.reads_entropies
        by_group = getattr(learner, "by_group", False) and not learner.resamples
        return self.one_pass != "never" and by_group and not reads

    @model_validator(mode="after")
    def _trackers_take_their_options(self) -> Self:
        chosen(self.trackers, self.tracker_options, self.wandb)
        return self

    @model_validator(mode="after")
    def _microbatch_holds_a_row(self) -> Self:
        if self.tokens_per_microbatch < self.max_length:
            raise ValueError(
                f"tokens_per_microbatch: got {self.tokens_per_microbatch}, allowed: at least max_length "
                f"({self.max_length}), so that one sequence fits"
            )
        return self

    @model_validator(mode="after")
    def _learner_fits_the_objective(self) -> Self:
        kind, learner, objective = self.learner.kind, self.learner.learner, self.objective
        if learner.needs_reward and objective.coefficients.w_r == 0:
            raise ValueError(
                f"learner.kind: got {kind!r}, allowed: with beta_inv above 0; its advantages are of the task reward"
            )
        if learner.own_utility == "pass@K" and not objective.utility.startswith("pass@"):
            raise ValueError(
                f"utility: got {objective.utility!r}, allowed: pass@K for {kind}, which takes its K from there"
            )
        own = objective.utility == learner.own_utility or learner.own_utility == "pass@K"
        if objective.utility != "identity" and not (learner.takes_utilities or own):
            alone = f"identity{'' if learner.own_utility is None else f' or {learner.own_utility}'}"
            raise ValueError(
                f"utility: got {objective.utility!r}, allowed: {alone} for {kind}, which has an advantage of its own; "
                f"others are for {those(lambda other: other.takes_utilities)}"
            )
        needed = least_samples(objective.utility)
        if self.samples_per_prompt < needed:
            raise ValueError(
                f"samples_per_prompt: got {self.samples_per_prompt}, allowed: at least {needed} with utility "
                f"{objective.utility}; fewer have no unbiased estimate of its slope"
            )
        if learner.own_utility == "pass@K" and self.samples_per_prompt == needed:
            raise ValueError(
                f"samples_per_prompt: got {needed}, allowed: at least {needed + 1} for {kind} with utility "
                f"{objective.utility}, which compares the sets of {needed}"
            )
        if learner.needs_entropy and self.objective.coefficients.w_h == 0:
            raise ValueError(
                f"learner.kind: got {kind!r}, allowed: with mode sampling; without entropy there is no target"
            )
        if self.temperature != 1.0 and not learner.off_policy:
            raise ValueError(
                f"temperature: got {self.temperature}, allowed: 1 for {kind}, whose gradient is of the policy that is "
                f"sampled; samples of any policy are for {those(lambda other: other.off_policy)}"
            )
        self._step_can_be_measured()
        self._can_sample_ahead()
        if self.lora is not None and self.objective.reference.startswith("refresh"):
            raise ValueError(f"lora: got it with reference {self.objective.reference!r}, allowed: frozen or policy")
        return self

    def _can_sample_ahead(self) -> None:
        """Refuse samples of the policy before where nothing corrects them, or the engine cannot be asked meanwhile."""
        learner, kind = self.learner.learner, self.learner.kind
        name = "max_kl" if self.optimizer.max_kl is not None else "measure_step"
        where = (
            (learner.resamples, f"with {kind}, which samples until it has enough groups"),
            (isinstance(learner, Matching), f"with {kind}, whose ratio is to the policy that drew the samples"),
            (self.importance == "none" and not learner.off_policy, "with importance none, which corrects nothing"),
            (self.optimizer.measures, f"with optimizer.{name}, whose samples have to be the policy's own"),
            (self.tensor_parallel > 1, "with tensor_parallel above 1, where processes sample together"),
            (self.optimizer_offload == "always", "with optimizer_offload always: sampling and updates are at one time"),
        )
        for refused, why in where:
            if self.sample_ahead and refused:
                raise ValueError(f"sample_ahead: got {self.sample_ahead}, allowed: 0 {why}")

    def _step_can_be_measured(self) -> None:
        """Refuse to measure a step on samples that are not of the policy that it starts from."""
        name = "max_kl" if self.optimizer.max_kl is not None else "measure_step"
        if self.optimizer.measures and self.learner.learner.resamples:
            raise ValueError(
                f"optimizer.{name}: got it with {self.learner.kind}, allowed: with learners that take every group; "
                "groups that are chosen by their rewards have no unbiased KL"
            )
        if self.optimizer.measures and self.temperature != 1.0:
            raise ValueError(
                f"optimizer.{name}: got it with temperature {self.temperature}, allowed: with temperature 1, whose "
                "samples are the policy's own"
            )


def recipe(model: str) -> dict[str, Any]:
    """Return the fields in which runs of ``model`` depart from ``TrainConfig``'s defaults; any other model: none."""
    return model_settings(model)


def whole_task(task: str) -> dict[str, Any]:
    """Return the settings of a run that trains, chooses and is measured on the parts of one task."""
    own = {"data": task, "split": "test", "selection_data": None, "selection_split": "validation"}
    return {"data": task, "split": "train", "evaluation": own}


def resolve(changes: dict[str, Any]) -> TrainConfig:
    """Return the configuration: defaults, then the model's recipe, then ``changes`` (nested mappings merge).

    Example:
        >>> resolve({"steps": 3, "optimizer": {"learning_rate": 0.5}}).optimizer.warmup_steps
        10
    """
    return TrainConfig.model_validate(changes)


def merge(old: dict[str, Any], new: dict[str, Any], whole: tuple[str, ...] = ("objective",)) -> dict[str, Any]:
    """Return ``old`` with the entries of ``new``; nested mappings merge, but those named in ``whole`` are replaced.

    Raises:
        InputError: ``old`` has a value where ``new`` has a mapping of settings, which would swallow it.
    """
    merged = dict(old)
    for name, given in new.items():
        before = merged.get(name)
        if not isinstance(given, dict) or name in whole or before is None:
            merged[name] = given
        elif isinstance(before, dict):
            merged[name] = merge(before, given, whole)
        else:
            raise InputError(name, before, f"a mapping of settings, since {', '.join(map(str, given))} is set in it")
    return merged


def load_changes(path: str) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file of training settings.

    Raises:
        InputError: the file cannot be read or is not a mapping.
    """
    return read_mapping(path, "config", "training settings")
