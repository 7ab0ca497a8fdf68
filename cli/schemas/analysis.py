"""The outputs of ``sharpen llm`` forecast, audit, outcomes and verify-sampler."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sharpen.cli.schemas.shapes import Loose, Row, Shape, of


class CurveRow(Loose):
    """One exponent of a forecast: also ``pass@K`` and ``maj@K`` with ``_low`` and ``_high``, null where not told."""

    __pydantic_extra__: dict[str, float | None] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]
    alpha: float
    expected_reward: float | None = of("Accuracy of the optimum; null: the samples cannot tell.")
    low: float | None
    high: float | None
    ess: float = of("Effective samples a problem.")
    sure: bool | None = of("Whether the 99 % interval of the gain leaves 0 out; absent at alpha = 1.", default=None)


class Untold(Shape):
    """A number that not every problem's samples tell."""

    value: float | None
    low: float | None
    high: float | None
    untold: float = of("Share of problems whose samples cannot tell.")


class AtK(Row):
    """A number at one k."""

    k: int


class Calibration(Shape):
    """Accuracy by fifths of log p within problems, least likely first."""

    expected_reward: list[float]
    low: list[float]
    high: list[float]
    turns: int = of("So often the curve may turn in alpha.")
    auc: float | None = of("Chance that a right sample is likelier than a wrong one; null: no problem has both.")


class Drawn(Shape):
    """Draws of --particles at one exponent."""

    alpha: float
    particles: int
    acceptance: float
    tokens_per_response: float


class Forecast(Shape):
    """Output of ``llm forecast``; forecast.json (docs/forecast.md)."""

    model: str
    data: str
    split: str
    problems: int
    samples: int
    curve: list[CurveRow]
    tilts: list[CurveRow] = of("p^alpha e^(B r), for the B of --beta-inv.")
    slope_at_1: Row = of("Cov(r, log p).")
    price: Row | None = of("Corr(r, log p) within problems; null where neither varies.")
    pass_slopes: list[AtK] = of("Slope of pass@k at alpha = 1.")
    crossover: int | None = of("First k whose slope is below 0.")
    crossover_certain: int | None = of("First k whose interval is.")
    mode: Untold = of("Accuracy of the likeliest response that was seen.")
    greedy: Row | None = of("Accuracy of greedy decoding; absent with --from.", default=None)
    task_reward: Row = of("Share of problems with a right sample.")
    mixed: Row = of("Share of problems with right and wrong samples.")
    calibration: Calibration
    effect: Literal["raise", "lower", "not move", "cannot be told"]
    verdict: str = of("The same in words.")
    particles: list[Drawn] | None = of("Only with --particles.", default=None)


class NullRow(Shape):
    """A number with its 95 % interval; null where it has none."""

    value: float | None
    low: float | None
    high: float | None


class Pair(Shape):
    """A measure of both models."""

    base: Row
    policy: Row
    difference: Row


class Fit(Shape):
    """The closest member of a family."""

    theta: dict[str, float | None] = of("Weight of each feature.")
    attained: bool = of("False: the closest member is a limit.")
    ess: float = of("Effective samples: the median over problems.")
    ess_least: float


class OwnAlpha(Shape):
    """What an alpha of its own for each problem would explain."""

    at_most: Row = of("nats")
    share: Row | None
    quartiles: list[float | None] = of("Of those alphas.")
    limits: int = of("Problems whose alpha is not finite.")


class ByChance(Row):
    """A share, and what two equal models would have."""

    by_chance: float


class Answers(Shape):
    """Answers that came and went."""

    new: ByChance
    given_up: ByChance
    entropy: Pair = of("Of answers, nats.")


class Tax(Shape):
    """Of base and policy, and the base's less the policy's."""

    base: NullRow
    policy: NullRow
    tax: NullRow


class Taxes(Shape):
    """What trying again adds (docs/audit.md)."""

    K: int
    A: Tax
    S: Tax


class Support(Shape):
    """Shares of problems by which model has a right sample."""

    n: int = of("Samples of each.")
    kept: Row
    gained: Row
    lost: Row
    out: Row
    gained_by_chance: float
    lost_by_chance: float


class PassRow(Shape):
    """Counts of right samples at one k."""

    k: int
    some: Pair = of("One of k samples is right.", alias="pass@k")
    every: Pair = of("All of k are.", alias="pass^k")


class Crossover(Shape):
    """First k at which the base is ahead; null: above ``most``."""

    value: int | None
    low: int | None
    high: int | None
    most: int
    chance: float


class Audit(Shape):
    """Output of ``llm audit``; audit.json (docs/audit.md). The split is null where samples are not scored by both."""

    base: str
    policy: str
    data: str
    problems: int
    samples: int
    unscored: str | None = of("Why there is no split; null: there is one.")
    kl: Row | None = of("KL(pi||p), nats.")
    explained: dict[str, Row] | None = of("By family of features, nats.")
    shapley: dict[str, Row] | None = of("By feature; they add up to explained.all.")
    rest: Row | None = of("What none of them explains, nats.")
    shares: dict[str, Row | None] | None = of("Parts of kl; null where that is below .001.")
    fits: dict[str, Fit] | None
    alpha: Row | None = of("Of the closest p^alpha.")
    own_alpha: OwnAlpha | None
    ess: dict[str, float] | None
    counts: list[PassRow] = of("By k.", alias="pass")
    crossover: Crossover
    tax: Taxes
    support: Support
    answers: Answers | None = of("null: not known")
    token_entropy: Pair | None
    verdict: str


class Bound(Shape):
    """Certain bounds at one exponent, means over problems."""

    alpha: float
    low: float
    high: float
    width: float
    widest: float = of("Of a single problem.")


class Tokens(Shape):
    """Forward tokens a problem."""

    mean: float
    most: int


class Outcomes(Shape):
    """Output of ``llm outcomes``; outcomes.json (docs/outcomes.md)."""

    model: str
    data: str
    split: str
    problems: int
    curve: list[Bound]
    outcomes: float = of("Seen, a problem.")
    forward_tokens: Tokens
    mode_certain: float = of("Share of problems whose likeliest outcome is certain.")
    stopped: dict[str, int] = of("Problems by why the search ended: width, budget, threshold, exact.")
    left_out: int = of("Problems whose prompts leave no room for a response.")


class Off(Shape):
    """A response that came too often or too seldom."""

    response: list[str] = of("Its tokens.")
    drawn: int
    expected: float
    residual: float = of("Standard deviations.")


class Verified(Shape):
    """Output of ``llm verify-sampler``."""

    method: str
    alpha: float
    model: str
    data: str
    seed: int
    problem: int
    longest: int = of("Tokens.")
    responses: int = of("That are possible.")
    tokens: list[str] = of("That are allowed.")
    entropy: float = of("Of p^alpha, nats.")
    tv: float = of("Total variation that was to be found.")
    power: float = of("Chance to find it.")
    false_alarm: float
    draws: int
    impossible: int = of("Draws that cannot be.")
    freedom: int = of("Degrees of freedom.")
    p_value: float
    total_variation: float
    expected_variation: float = of("Of an exact sampler.")
    largest_variation: float = of("Of an exact sampler, nearly always below.")
    chi_square: float | None = of("null: infinite")
    exact: bool
    tokens_per_draw: float
    most_off: list[Off]
