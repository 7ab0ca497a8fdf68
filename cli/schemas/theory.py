"""The outputs of ``sharpen theory``: policies, stationary points, proofs."""

from __future__ import annotations

from pydantic import Field

from sharpen.cli.schemas.shapes import Bounds, Coefficients, Count, Loose, Number, OfObjective, OfProblem, Shape, of


class Point(Shape):
    """A policy, by the outcomes that it has."""

    support: list[int] = of("Outcomes of positive probability.")
    probabilities: list[float] = of("One an outcome of the problem.")
    value: Number = of("J, nats.")
    expected_reward: float


class Optimum(Point):
    """The objective's optimum."""

    unique: bool


class FixedPoint(Point):
    """A stationary point of the natural-gradient flow."""

    eigenvalues: list[Number] = of("Growth rates of small deviations; negative: they die out.")
    kind: str = of("stable, saddle, unstable or neutral.", alias="class")
    continuum: bool = of("One of a whole face of such points.")


class Family(Shape):
    """Stationary points of one kind, counted."""

    kind: str = of("stable, saddle, unstable or neutral.", alias="class")
    count: Count
    smallest: int = of("Outcomes of the smallest support.")
    largest: int = of("Outcomes of the largest support.")
    inside: list[Number] | None = of("Smallest and largest eigenvalue within the support.")
    across: list[Number] | None = of("Smallest and largest eigenvalue out of the support.")
    continuum: bool


class FixedPoints(OfProblem):
    """Output of ``theory fixed-points``."""

    coefficients: Coefficients
    optimum: Optimum
    fixed_points: list[FixedPoint] = of("Those that were found.")
    families: list[Family] = of("All of them, counted.")
    total: Count
    complete: bool = of("Whether every one is in fixed_points.")
    prompt_id: str | None = of("Only with --problems.", default=None)
    unseen_mass: float | None = of("Only with --problems: probability of what is not known.", default=None)


class Step(Shape):
    """One step of a proof."""

    text: str
    formula: str
    latex: str
    assuming: list[str]
    where: list[str]
    method: str = of("How it was checked: symbolic, …")
    scope: str = of("For what it was checked.")
    confirms: bool = of("A check on numbers after the derivation, not a part of it.")
    error: float | None = of("Largest deviation; null: not a finite number.")
    tolerance: float
    holds: bool


class Theorem(Shape):
    """A result with its proof."""

    id: str = of("T1, T2, …")
    title: str
    statement: str
    latex: str
    holds: bool
    method: str
    error: float | None
    steps: list[Step]


class Derived(Shape):
    """Output of ``theory derive``."""

    results: list[Theorem]
    seed: int = of("Of the random problems.")


class Weighed(Shape):
    """One outcome of a policy."""

    outcome: int
    probability: float
    log_probability: float = of("nats")


class Policy(Shape):
    """A policy's measures and its likeliest outcomes."""

    expected_reward: float
    value: float = of("J, nats.")
    entropy: float = of("nats")
    kl_to_base: float = of("KL(pi||p), nats.")
    support_size: int
    outcomes: list[Weighed] = of("The likeliest (--top).")


class UniquePolicy(Policy):
    """An optimum."""

    unique: bool


class Face(Shape):
    """Where every policy on some outcomes is optimal."""

    size: int = of("Outcomes.")
    base_mass: float = of("Their probability under p.")


class Stationary(Shape):
    """A solution under a utility of the success rate."""

    kind: str
    success: float
    log_odds: float | None = of("null: infinite")
    tilt: float | None = of("Right answers' log odds against p^alpha; null: infinite.")


class Edge(Shape):
    """Corners of the hull of E[r] and E[log p], by growing reward."""

    outcomes: list[int]
    expected_reward: list[float]
    expected_score: list[float] = of("E of log p, divided by length as the objective does.")
    exchange: list[float] = of("Score given up for a unit of reward, between corners.")


class AtKl(Shape):
    """A policy at a KL from the base; the parameters that its family has."""

    alpha: float | None = of("Of p^alpha or of the ray.", default=None)
    beta_inv: float | None = of("Of the tilt or of the ray.", default=None)
    samples: float | None = of("Of best-of-n.", default=None)
    expected_reward: float
    log_likelihood: float = of("E[log p], nats.")
    entropy: float = of("nats")


class Frontier(Shape):
    """The largest E[r] at a KL against likelihood, one entry a point; null: infinite."""

    alpha: list[float | None]
    beta_inv: list[float | None]
    kl: list[float | None]
    expected_reward: list[float | None]
    expected_score: list[float | None]
    log_likelihood: list[float | None]


class Budget(Shape):
    """Policies at one KL from the base (--kl)."""

    kl: float = of("nats")
    policies: dict[str, AtKl | None] = of("By family; null: that KL is not reached.")
    frontier: Frontier | None


class OptimumReport(OfObjective):
    """Output of ``theory optimum``."""

    coefficients: Coefficients
    n: int = of("Outcomes.")
    base: Policy
    optimum: UniquePolicy
    softmax_gradient: Policy | None = of("Where softmax gradients end; null: a saddle is too near to tell.")
    answer_optimum: Policy | None = of("With --answers: where answers, not responses, are sharpened.")
    face: Face | None
    solutions: list[Stationary] | None = of("Under a utility other than the success rate itself.")
    limits: dict[str, Policy] | None = of("By the weight that goes to infinity; base: by neither.")
    pareto: Edge | None
    kl_budgets: list[Budget]


class KnownRow(Loose):
    """Certain bounds of one problem; also ``pass@K`` for several K, each as ``expected_reward``."""

    __pydantic_extra__: dict[str, Bounds] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]
    prompt_id: str
    outcomes: int = of("Seen.")
    unseen_mass: float = of("Probability of all that is not seen.")
    mode_certain: bool = of("Whether the likeliest outcome is certain to be the likeliest.")
    mode_reward: float | None = of("Its reward; null: none was seen.")
    expected_reward: Bounds
    kl_to_base: Bounds
    log_z: Bounds = of("log of the sum of p^alpha e^(B r), nats.")


class KnownMean(Loose):
    """Means over problems; also ``pass@K``."""

    __pydantic_extra__: dict[str, Bounds | None] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]
    expected_reward: Bounds | None
    kl_to_base: Bounds | None
    log_z: Bounds | None
    mode_certain: float = of("Share of the problems.")
    unseen_mass: float


class KnownReport(OfObjective):
    """Output of ``theory optimum --problems``: certain bounds from a model's known outcomes."""

    n: int = of("Problems.")
    mean: KnownMean
    problems: list[KnownRow]


class Turn(Shape):
    """Where E[r] turns in alpha."""

    alpha: float
    expected_reward: float
    kind: str = of("maximum or minimum")


class Response(OfObjective):
    """Output of ``theory response``."""

    n: int = of("Outcomes.")
    over: str = of("alpha or beta_inv")
    base_expected_reward: float
    grid: list[float] = of("Values of it.")
    expected_reward: list[float] = of("E[r] of the optimum at each.")
    derivative: list[float] = of("dE[r] / d over, at each.")
    turning_points: list[Turn]
    stops_helping: float | None = of("First alpha from which E[r] falls; null: none from 1 on.")
    below_base: float | None = of("First alpha at which E[r] falls below the base's; null: none from 1 on.")


class BoundAt(Shape):
    """Certain bounds of E[r] at one value."""

    alpha: float | None = of("With --over alpha.", default=None)
    beta_inv: float | None = of("With --over beta_inv.", default=None)
    low: float
    high: float


class KnownResponse(OfObjective):
    """Output of ``theory response --problems``."""

    n: int = of("Problems.")
    over: str = of("alpha or beta_inv")
    expected_reward: list[BoundAt] = of("Means over problems.")
    unseen_mass: float


class OfPolicy(Shape):
    """pass@k and maj@k of a policy, one entry a k."""

    pass_at_k: list[float]
    maj_at_k: list[float] | None = of("null: answers that votes are counted over are not known.")
    success: list[float] = of("E[r], one a prompt.")


class PromptRow(Shape):
    """One finite problem of a mix."""

    base: list[float]
    reward: list[float]
    length: list[float]
    answers: list[int] = of("Class of each outcome in a vote.")
    weight: float = of("In the mix.")
    mode_conflict: bool | None = of("Only with --marginal: do likeliest response and answer disagree?", default=None)


class CoverageReport(OfObjective):
    """Output of ``theory coverage``."""

    prompts: list[PromptRow]
    k: list[int]
    policies: dict[str, OfPolicy] = of("base, optimum and others that were asked for.")
    crossover: dict[str, int | None] = of("First k at which the base's pass@k is above the policy's; null: none.")
    k_max: int = of("Largest k that was looked at.")


class KnownCoverageRow(Shape):
    """Certain bounds of pass@k."""

    k: int
    base: Bounds
    optimum: Bounds


class KnownCoverage(OfObjective):
    """Output of ``theory coverage --problems``."""

    n: int = of("Problems.")
    pass_at_k: list[KnownCoverageRow]
    base_ahead_by: int | None = of("First power of 2 at which the base is ahead for certain; null: none.")
    unseen_mass: float
