"""The outputs of ``sharpen toy``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sharpen.cli.schemas.dynamics import Portrait
from sharpen.cli.schemas.shapes import Ends, ObjectiveFields, Shape, of

Three = Annotated[
    list[float | None],
    Field(min_length=3, max_length=3, description="[value, low, high], 95 %; null: never, or without bound."),
]


class Finite(Shape):
    """The problem."""

    base: list[float]
    reward: list[float]
    length: list[float]


class Fixed(Shape):
    """Runs that ended at one outcome."""

    outcome: int
    runs: int
    share: float
    interval: Ends | None = of("null: nothing is random.")


class End(Shape):
    """The theory's optimum."""

    support: list[int]
    value: float = of("J, nats.")
    unique: bool


class Alarm(Shape):
    """Runs whose entropy fell below a tenth of the base's."""

    below: float = of("nats that count as collapsed")
    share: float = of("Of the runs.")
    update: float = of("Median of the first record there.")
    limit_entropy: float = of("Of the limit, nats: with none the objective asks for it.")


class Ended(Shape):
    """How runs ended: means over seeds, each with its interval (null: nothing is random)."""

    seeds: int
    expected_reward: float | None
    expected_reward_interval: Ends | None
    entropy: float | None = of("nats")
    entropy_interval: Ends | None
    kl_base: float | None = of("KL(pi||p), nats.")
    kl_base_interval: Ends | None
    gradient_snr: float | None = of("Signal-to-noise ratio of an update, at the end.")
    gradient_snr_interval: Ends | None
    fixation: list[Fixed]


class Track(Ended):
    """One objective by one learner."""

    objective: str = of("Preset.")
    learner: str
    spec: ObjectiveFields
    policy: list[float] = of("At the end, mean over seeds.")
    limit: list[float] = of("Where theory says that it goes.")
    limit_expected_reward: float
    optimum: End
    compared_with: str = of("limit, or face where every policy on it is optimal.")
    gap: float = of("Total variation to the limit, or mass off the face.")
    verdict: str = of("reached, approaches, differs, noisy, …")
    value: float = of("J, nats.")
    value_interval: Ends | None
    top1: float = of("Probability of the likeliest outcome.")
    top1_interval: Ends | None
    entropy_alarm: Alarm | None
    gradient_snr_method: str | None = of("closed form, enumeration or draws; null: the learner has no noise.")
    gradient_snr_start: float | None
    gradient_snr_start_interval: Ends | None


class Split(Shape):
    """What the change at one update was made of (docs/audit.md), exactly."""

    objective: str
    learner: str
    update: int
    policy: list[float]
    kl: float = of("nats")
    explained: dict[str, float] = of("By features joined by +, and all.")
    shapley: dict[str, float]
    rest: float
    alpha: float | None = of("Of the closest p^alpha; null in a limit.")


class Simulated(Shape):
    """Output of ``toy simulate``; the run folder's summary.json."""

    version: str = of("Of sharpen, that made the run.")
    problem: Finite
    tracks: list[Track]
    audit: list[Split] | None = of("Only with --audit.", default=None)


class Setting(Ended):
    """One combination of the listed values."""

    learner: str
    group_size: int
    optimizer: str
    epsilon: float
    kl: str
    reference: str | int
    utility: str
    mode: str
    normalization: str
    weight: float | None
    alpha: float
    beta_inv: float
    step_size: float
    reward_noise: float
    base_noise: float
    true_positive: float
    false_positive: float
    length: float | None = of("Tokens.")
    length_interval: Ends | None
    kl_optimum: float | None = of("KL(pi||pi*), nats; null: several optima.")
    kl_optimum_interval: Ends | None
    face_mass: float | None
    face_mass_interval: Ends | None
    effective_alpha: float | None
    effective_alpha_interval: Ends | None
    collapsed: float = of("Share of runs with one outcome above .99.")
    collapsed_interval: Ends
    collapse_step: float | None = of("Median update of that; null: most never do.")
    collapse_step_interval: Ends | None


class Swept(Shape):
    """Output of ``toy sweep``."""

    table: str = of("File of all records.")
    settings: list[Setting]


class Origin(Shape):
    """What made the numbers."""

    command: list[str] = of("Words of the command line.")
    commit: str | None = of("Of the code; + where it was changed since; null: not known.")
    seeds: int


class Finding(Shape):
    """A statement on the dynamics, measured."""

    id: str
    statement: str
    holds: bool
    numbers: dict[str, Three] = of("By what they are.")


class Findings(Origin):
    """Output of ``toy findings``."""

    findings: list[Finding]


class Learned(Shape):
    """One learner on one problem."""

    name: str
    learner: str
    utility: str
    step_size: float
    kl: str
    ascends: str = of("Which function of the success rate, by the theory.")
    slope: float | None = of("Of measured on predicted updates: 1 where they agree.")
    variance: float | None
    missing: Three | None = of("Probability that is not where the optimum has it, at the end.")
    passed: Three | None = of("Updates until the success rate has passed its mark.")
    entropy: Three | None = of("nats")
    within: Three | None
    collapsed: Three | None = of("Updates until it collapsed.")
    path: list[list[float | None]] = of("Pairs of success rate and entropy along the run.")


class Learners(Origin):
    """Output of ``toy learners``."""

    learners: list[Learned]


class Reached(Shape):
    """How long a learner takes to its target."""

    name: str
    learner: str
    step_size: float
    samples_per_update: int
    reached: Three = of("Share of seeds.")
    updates: Three
    samples: Three | None
    effective_alpha: Three
    missing: Three


class Study(Shape):
    """One quantity that is varied."""

    rows: list[Reached]
    exponent: Three | None = of("Of the power of that quantity by which updates grow; null: no number.")


class Slope(Shape):
    """Growth of the effective alpha under one account of it."""

    account: str
    name: str
    variance: float
    gain: Three
    gained: Three
    effective_alpha: Three
    predicted: Three
    within: Three | None
    reward: Three
    reward_base: float
    reward_target: float


class Target(Origin):
    """Output of ``toy target``: the studies that were asked for."""

    within: float
    learners: Study | None = None
    alpha: Study | None = None
    outcomes: Study | None = None
    length: Study | None = None
    slope: list[Slope] | None = None


class Rest(Shape):
    """Where the learner rests."""

    probabilities: list[float]
    kind: str = of("stable, saddle, unstable or neutral.", alias="class")
    eigenvalues: list[float]
    kl_optimum: float | None


class OfLearner(Shape):
    """The learner's mean field, exact over all groups of samples."""

    name: str
    cosine_at_base: float | None = of("Of its mean update and the gradient; null: one is 0.")
    gain_at_base: float | None = of("Its length, in lengths of the gradient.")
    rest_points: list[Rest]


class ToyPhase(Portrait):
    """Output of ``toy phase``: that of ``theory phase``, and the learner's."""

    learner: OfLearner
