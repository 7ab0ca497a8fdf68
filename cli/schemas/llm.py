"""The outputs of ``sharpen llm`` and ``sharpen doctor`` that are not about two models or an optimum."""

from __future__ import annotations

from typing import Any

from pydantic import Field, RootModel

from sharpen.cli.schemas.shapes import Ends, Loose, Shape, Share, of


class There(Shape):
    """A model, data set or package, and whether it is on this machine."""

    name: str
    here: bool
    note: str = of("What gets it, or more about it.")


class Machine(Shape):
    """What computes."""

    python: str
    system: str
    cores: int
    memory_gib: float | None
    gpus: list[str] | None = of("null: torch is not installed.")


class NamedRun(Shape):
    """A recipe or file of settings (doctor RUN)."""

    name: str
    missing: list[str] = of("What it lacks here, one line each.")


class Doctor(Shape):
    """Output of ``doctor``."""

    version: str
    machine: Machine
    packages: dict[str, list[There]] = of("By extra.")
    models: list[There] | None = of("null: the extra llm is not installed.")
    data: list[There] | None
    run: NamedRun | None = of("Only with RUN.", default=None)


class Overlap(Shape):
    """One test set beside the training set (docs/evaluation.md)."""

    train: str
    test: str
    train_problems: int
    test_problems: int
    identical: int = of("Test problems whose text is in the training set.")
    same: int = of("The same after normalisation.")
    near: int = of("Nearly the same.")
    shared: int = of("Training problems that are the same as a test problem.")
    repeated: int = of("Training problems that come again.")
    removed: int = of("That sharpen llm train would leave out.")
    pairs: list[tuple[str, str, str]] = of("Training id, test id, and identical, same or near.")


class TaskRow(Shape):
    """A task."""

    task: str
    about: str


class Data(RootModel[list[Overlap]]):
    """Output of ``llm data``: one a test set."""


class Tasks(RootModel[list[TaskRow]]):
    """Output of ``llm tasks``."""


class Models(RootModel[list[There]]):
    """Output of ``llm models``."""


class Recipes(RootModel[list[str]]):
    """Output of ``llm recipes``: names."""


class Fetched(Shape):
    """Output of ``llm fetch``."""

    model: str
    folder: str


class Group(Loose):
    """Measures of the problems of one subject or level: ``pass@1``, ``pass@N``, ``maj@N``, …, with intervals."""

    __pydantic_extra__: dict[str, float | Ends | None] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]
    problems: int


class Measures(Loose):
    """What samples of a policy show (docs/evaluation.md).

    Also ``pass@K`` and ``maj@K`` for K = 1, 2, 4, … up to the number of samples, ``score`` and ``threshold`` where the
    task scores between 0 and 1, and an interval ``NAME_interval`` of each measure.
    """

    __pydantic_extra__: dict[str, float | Ends | None] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]
    problems: int
    samples: int = of("A problem.")
    response_length: float = of("Mean tokens, end-of-sequence included.")
    response_length_quantiles: dict[str, float]
    finished: Share = of("Responses that ended by themselves.")
    cut: Share = of("Responses that were cut at the limit.")
    answered: Share = of("Responses with a final answer.")
    entropy: float | None = of("Of the next token, nats.")
    logprob: float | None = of("Mean log pi(x), nats.")
    base_logprob: float | None = of("Mean log p(x), nats.")
    kl_base: float | None = of("KL(pi||p), nats a response.")
    by_subject: dict[str, Group] = of("Where the data has subjects.")
    by_level: dict[str, Group] = of("Where the data has levels.")


class Differs(Shape):
    """A measure of two policies, paired by problem."""

    ours: float
    theirs: float
    difference: float = of("ours - theirs")
    interval: Ends
    permutation_p: float
    sign_p: float
    wins: int
    losses: int


class Comparison(Shape):
    """Differences from another evaluation of the same problems."""

    other: str = of("Its folder.", alias="with")
    problems: int = of("That both have.")
    left_out: int = of("The others.")
    measures: dict[str, Differs]


class Asked(Measures):
    """Measures, and what was asked."""

    model: str = of("Folder or hub id.")
    data: str
    split: str
    left_out: int = of("Problems whose prompts leave no room for a response.")
    model_history: list[dict[str, Any]] = of("What labels the model's own trainings read.")
    template_boxed: int = of("Filled boxes that the template shows: labels too.")
    template_examples: int = of("Worked responses that it shows.")


class Evaluated(Asked):
    """Output of ``llm eval``; evaluation.json of its folder."""

    comparison: Comparison | None = of("Only with --compare.", default=None)


class Cost(Shape):
    """What sampling took (docs/sampling.md)."""

    generated_tokens: int
    returned_tokens: int
    tokens_per_response: float
    overhead: float | None = of("Generated over returned tokens.")
    proposals: int
    acceptance: float | None = of("Share of them; null: the method has none.")
    moved: float | None = of("Share of them that changed the response.")
    tokens_per_accepted: float | None


class Sampled(Asked):
    """Output of ``llm sample``; evaluation.json of its folder."""

    method: str
    alpha: float
    seed: int
    cost: Cost
    verified: bool = of("Whether the data had answers; without them pass@K and maj@K are null.")
    trained: dict[str, Any] | None = of(
        "With --beside: the run's pass@1, length and tokens, and break-even.", default=None
    )


class Checkpoint(Measures):
    """A checkpoint's measures."""

    step: int = of("Updates.")


class AlphaSlope(Shape):
    """Slope of log pi on log p with its 95 % interval; null where it cannot be told."""

    slope: float | None
    low: float | None
    high: float | None


class MeasuredSlope(AlphaSlope):
    """Over samples of one of the models."""

    fixed_length: AlphaSlope = of("Within problems and lengths.")
    reliability: float | None = of("Share of the spread of log p that is not noise of its scoring.")
    corrected: AlphaSlope | None = of("Of the base's samples: for that noise.", default=None)


class EffectiveAlpha(Shape):
    """How far the last policy got towards p^alpha."""

    target: float | None = of("What the objective's optimum has; null: no single number.")
    prompts: int
    policy: MeasuredSlope
    base: MeasuredSlope


class Trained(Shape):
    """Output of ``llm train``; the run folder's evaluation.json (docs/llm.md)."""

    base: Checkpoint
    last: Checkpoint
    best: Checkpoint
    selection: list[Checkpoint] = of("On the problems that chose ``best``; also its objective, if that chose.")
    effective_alpha: EffectiveAlpha | None
    choice: dict[str, Any] = of("How best was chosen: by, labels, data, problems, samples, candidates.")
    labels: dict[str, Any] = of("What the run owes to labels.")
    left_out: dict[str, int] = of("Problems whose prompts leave no room, by part.")
    template: str
    engine: str


class Planned(Shape):
    """Output of ``llm train --dry-run``."""

    config: dict[str, Any] = of("Every setting; --config takes it back.")
    processes: int
    device: str
    dtype: str
    gpu: str | None
    gpu_memory: float | None
    parameters: int
    trained: int = of("Parameters that are trained.")
    memory: dict[str, Any] = of("Bytes by what holds them, a process.")
    host: dict[str, Any] | None = of("Bytes of the machine's memory.")
    budget: dict[str, Any] = of("Responses and tokens.")
    times: dict[str, Any] | None = of("Seconds, where this device has been measured.")
    device_assumed: bool = of("Whether a GPU is planned for that is not here.")
    missing_here: list[str]


class Upload(Shape):
    """What --push would send; nothing is sent."""

    repository: str
    files: dict[str, int] = of("Bytes by name.")
    bytes: int
    command: str = of("What sends them.")


class Exported(Shape):
    """Output of ``llm export``; export.json of the folder."""

    model: str
    location: str = of("What was exported.")
    base: str | None = of("What it was trained from.")
    dtype: str
    parameters: int
    files: dict[str, int] = of("Bytes by name.")
    provenance: dict[str, Any] = of("Command, commit, versions, machine, time.")
    upload: Upload | None = of("Only with --push.", default=None)


class Styles(Shape):
    """How often an answer is given in one way, and how often it is right then."""

    share: float
    accuracy: float | None


class PretrainedMeasures(Shape):
    """The embedded model on its test problems."""

    problems: int
    samples: int
    pass_at_1: float = of("Share of right samples.", alias="pass@1")
    pass_at_1_interval: Ends = of("[low, high], 95 %.", alias="pass@1_interval")
    response_length: float
    styles: dict[str, Styles] = of("Of samples.")
    greedy: dict[str, Styles] = of("Of greedy decoding.")
    mode: dict[str, Any] = of("Of the likeliest response.")


class Pretrained(Shape):
    """Output of ``llm pretrain``; provenance.json of the folder."""

    command: str
    settings: dict[str, float]
    corpus: dict[str, Any]
    commit: str | None
    versions: dict[str, str]
    date: str
    measures: PretrainedMeasures


class Member(Loose):
    """A model of the dial, measured (docs/dial.md)."""

    member: dict[str, float]
    problems: int
    correlation: float | None = of("Corr(r, log p) within problems.")


class Dial(RootModel[dict[str, Member]]):
    """Output of ``llm pretrain --dial``: by name."""
