"""The outputs of ``sharpen theory`` on noise, flows, estimators, rounds and sequences."""

from __future__ import annotations

from sharpen.cli.schemas.shapes import Count, Number, ObjectiveFields, OfObjective, OfProblem, Shape, of
from sharpen.cli.schemas.theory import FixedPoint


class Noise(Shape):
    """Means over random errors, with standard errors (_se)."""

    total_variation: float
    total_variation_se: float
    exact_total_variation: float | None = of("In closed form, where there is one.")
    flip_probability: float = of("That the likeliest outcome changes.")
    flip_frequency: float = of("How often it did.")
    flip_frequency_se: float
    expected_reward: float
    expected_reward_se: float


class Source(Shape):
    """How far the optimum moves with an error of one quantity."""

    gain: list[float] = of("Singular values of the optimum's derivative.")
    worst_total_variation: float = of("For errors of at most epsilon an outcome.")
    exact: bool = of("Whether that is the worst case or the worst that was found.")
    bound: float
    perturbation: list[float] = of("The error that does it.")
    flip_radius: float | None = of("Smallest error that changes the likeliest outcome; null: none does.")
    noise: Noise


class Sensitivity(OfProblem):
    """Output of ``theory sensitivity``."""

    optimum: list[float]
    sources: dict[str, Source] = of("likelihood, reward")
    epsilon: float
    noise_sd: float
    draws: int
    seed: int


class Basin(Shape):
    """Where a part of the simplex ends."""

    support: list[int]
    end: list[float]
    continuum: bool
    share: float = of("Of all starts.")
    grid_share: float | None = of("The same by a grid of starts (--resolution).", default=None)


class Border(Shape):
    """A border between basins."""

    saddle: list[int]
    exact: bool
    points: list[list[float]]


class Portrait(OfProblem):
    """Flow on three outcomes."""

    field: str = of("natural or softmax")
    fixed_points: list[FixedPoint]
    basins: list[Basin]
    exact: bool = of("Whether shares are exact or by integrated borders.")
    separatrices: list[Border]
    nullclines: list[list[list[list[float]]]]
    streamlines: list[list[list[float]]]


class Phase(Portrait):
    """Output of ``theory phase``."""

    grid_resolution: int | None = of("Points a side of the grid that ``grid_share`` is counted on.")


class Estimator(Shape):
    """An estimator of a gradient, exactly over all groups of samples."""

    name: str
    placement: str = of("reward, loss, …")
    target: str = of("kl or objective: which gradient it is of.")
    expectation: list[float]
    bias: list[float]
    bias_norm: float
    cosine: float | None = of("Of expectation and target; null: one of them is 0.")
    scale: float | None
    variance: float = of("Of one group's gradient, summed over the logits.")
    variances: list[float]
    unbiased: bool
    proportional: bool


class Claim(Shape):
    """A published claim, decided by these numbers."""

    source: str
    claim: str
    confirmed: bool | None = of("null: does not apply here.")
    numbers: dict[str, float | None]


class Ascent(Shape):
    """Which function of the success rate a learner ascends."""

    name: str
    ascends: str
    times: float | None
    polynomial: list[float] = of("Of its derivative in the success rate, lowest power first.")
    target: str
    expectation: list[float]
    bias_norm: float
    scale: float | None
    variance: float
    unbiased: bool


class Estimators(Shape):
    """Output of ``theory estimators``."""

    objective: ObjectiveFields
    base: list[float]
    reward: list[float]
    length: list[float]
    policy: list[float]
    group: int = of("Samples.")
    multisets: int = of("Groups that were summed over.")
    kl_gradient: list[float]
    objective_gradient: list[float]
    estimators: list[Estimator]
    claims: list[Claim]
    ascents: list[Ascent]


class FoldPoint(Shape):
    """A stationary success rate."""

    kind: str = of("maximum, minimum or certainty")
    success: float
    log_odds: float | None = of("null: infinite")
    value: float


class Folded(Shape):
    """Output of ``theory fold``."""

    base_success: float
    beta: float = of("Weight of the KL.")
    group: int | None = of("Samples; null: infinitely many.")
    state: str = of("two optima, only certainty, or one optimum")
    optima: list[FoldPoint]
    least_beta: float | None = of("From here on there is an optimum beside certainty.")
    equal_beta: float | None = of("Where both are worth the same.")


class Round(Shape):
    """The policy after a round."""

    round: int
    effective_alpha: float | None = of("The policy is base^that; null: infinite or none.")
    expected_reward: float
    entropy: float = of("nats")
    kl_to_base: float = of("nats")
    log_lost: float | None = of("log of the mass outside the likeliest outcome; null: none.")
    probabilities: list[float] | None = of("null: too many outcomes to list.")


class Collapse(Shape):
    """When one outcome has all but a little of the probability."""

    effective_alpha: float
    rounds: int
    mass: float


class RoundFamily(Shape):
    """Fixed points of a round, counted."""

    kind: str = of("stable, saddle or unstable", alias="class")
    count: Count
    smallest: int
    largest: int
    inside: float | None
    across: Number | None
    continuum: bool


class SelfSharpening(OfObjective):
    """Output of ``theory self-sharpening``."""

    n: int = of("Outcomes.")
    rounds: list[Round]
    epsilon: float
    collapse: Collapse | None
    fixed_points: list[RoundFamily] | None


class IidModel(Shape):
    """Tokens that are drawn independently."""

    kind: str
    tokens: list[float]
    hazard: float


class ChainModel(Shape):
    """A Markov model."""

    kind: str = of("markov or ngram")
    states: int
    transitions: int
    live_states: int


class LengthAt(Shape):
    """Lengths under p^alpha."""

    alpha: float
    continuation_ratio: float = of("Below 1: p^alpha exists.")
    log_continuation_ratio: float | None
    normalisable: bool
    mean_length: float | None = of("Tokens before the stop; null: infinite.")
    std_length: float | None
    temperature_mean_length: float | None = of("Of token-level temperature 1/alpha.")


class Lengths(LengthAt):
    """Output of ``theory length``."""

    model: IidModel | ChainModel
    critical_alpha: float | None = of("Below it there is no p^alpha.")
    base_mean_length: float | None
    slope: float | None = of("Of the mean length in alpha at 1; null: not of this model.")
    curve: list[LengthAt] = of("At --alphas.")


class Sequence(Shape):
    """A sequence."""

    states: list[int]
    tokens: list[str]
    log_prob: float = of("nats")
    length: int = of("Tokens before the stop.")


class Weighted(Sequence):
    """The sequence of the largest log p / |x|^weight."""

    weight: float
    score: float
    bound: float
    optimal: bool
    longest: int


class MeanMode(Shape):
    """The largest log p / |x|."""

    supremum: float
    attained: bool
    sequence: Sequence | None = of("null: a cycle approaches it.")
    cycle: list[int]
    cycle_tokens: list[str]
    cycle_mean: float | None
    cycle_bound: float | None


class OfSequences(Shape):
    """Means under a policy over sequences."""

    mean_length: float | None
    std_length: float | None
    entropy: float | None = of("nats a sequence")
    log_prob: float | None = of("Mean, nats.")
    expected_reward: float | None = of("With --reward-states.")


class SequencePolicies(Shape):
    """p^alpha beside token-level temperature."""

    alpha: float
    base: OfSequences
    power: OfSequences
    temperature: OfSequences | None = of("null: it may never stop.")
    kl_power_temperature: float | None = of("nats a sequence; null: infinite.")
    kl_temperature_power: float | None
    reward_gap: float | None


class Sequences(Shape):
    """Output of ``theory sequences``."""

    model: IidModel | ChainModel
    likeliest: list[Sequence]
    mean: MeanMode
    weighted: Weighted
    policies: SequencePolicies
