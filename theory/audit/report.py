"""The audit's numbers of a split: intervals over prompts, shares, one exponent against one per prompt, and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sharpen.objective import InputError
from sharpen.theory.audit.deviance import FEATURES, SHARPENING, shapley_values
from sharpen.theory.audit.sampled import Family, Own, Pooled, families, own_exponents
from sharpen.theory.core.intervals import Resampler
from sharpen.theory.core.problem import FloatArray

ALL, NONE, EVERYTHING = "all", "", "+".join(FEATURES)
DIGITS = 12  # of nats: what is behind them is rounding, of a KL of 0 above all
HARDLY = 1e-3  # nats: a KL below it is no change to speak of, and shares of it are not given
LEAST_ESS = 5.0  # median effective sample size of a family's member below which its number is not to be relied on


def audit_split(prompts: Sequence[Pooled], seed: int = 42) -> dict[str, Any]:
    """Return what a change of policy was made of, estimated from samples of both models.

    Args:
        prompts: P of them, at least 2.
        seed: Of the intervals.

    Returns:
        ``kl``, ``rest`` and each entry of ``explained`` (by features joined by ``+``, and ``all``) and of ``shapley``:
        ``value``, ``low`` and ``high``, nats, 95 % over prompts; ``shares``: the same as parts of ``kl``, None where
        that is about 0; ``fits``: of each family ``theta``, ``attained``, ``ess`` (median over prompts), ``ess_least``;
        ``alpha``: the shared exponent 1 + theta, None in a limit; ``own_alpha``: with one exponent per prompt what is
        explained ``at_most``, its ``share``, the ``quartiles`` of the exponents, and the ``limits``: prompts whose
        exponent is not finite;
        ``ess``: median effective sample sizes of the pooled samples for ``base`` and ``policy``; ``verdict``.

    Raises:
        InputError: fewer than 2 prompts.

    Example:
        >>> from sharpen.theory.audit.sampled import Scored
        >>> rng = np.random.default_rng(0)
        >>> log_p = np.log([0.6, 0.3, 0.1])
        >>> log_pi = 2 * log_p - np.log(np.sum(np.exp(2 * log_p)))
        >>> def drawn(logs):
        ...     at = rng.choice(3, size=16, p=np.exp(logs))
        ...     return Scored.of(log_p[at], log_pi[at], at == 1, at + 1)
        >>> found = audit_split([Pooled.of(drawn(log_p), drawn(log_pi)) for _ in range(32)])
        >>> found["alpha"]["value"], found["shares"]["sharpening"]["value"] > 0.9
        (2.0, True)
    """
    if len(prompts) < 2:
        raise InputError("problems", len(prompts), "at least 2: intervals are over prompts")
    resampler = Resampler(len(prompts), seed)
    kl = np.array([one.points.kl for one in prompts])
    found, own = families(prompts), own_exponents(prompts)
    draws = _Draws(kl, found, resampler)
    explained = {(ALL if name == EVERYTHING else name): draws.row(name) for name in found}
    sharpened = found[SHARPENING]
    result: dict[str, Any] = {
        "kl": _row(kl, resampler),
        "explained": explained,
        "shapley": {name: draws.shapley(name) for name in FEATURES},
        "rest": draws.rest(),
        "shares": draws.shares(),
        "fits": {(ALL if name == EVERYTHING else name): _fit(one) for name, one in found.items()},
        "alpha": _row(1.0 + sharpened.theta[SHARPENING] + sharpened.pull[SHARPENING], resampler)
        if sharpened.attained
        else None,
        "own_alpha": _own(own, kl, resampler),
        "ess": {name: float(np.median(size)) for name, size in _sizes(prompts).items()},
    }
    return result | {"verdict": verdict(result)}


class _Draws:
    """What each family explains in each draw of the prompts' weights: one Newton step from the maximum."""

    def __init__(self, kl: FloatArray, found: dict[str, Family], resampler: Resampler) -> None:
        self.resampler = resampler
        columns, self.places = [kl[:, None]], {}
        for name, one in found.items():
            start = sum(block.shape[1] for block in columns)
            self.places[name] = (start, one.score.shape[1], one.optimism)
            columns += [one.explained[:, None], one.score]
        self.columns = np.concatenate(columns, axis=1)
        self.values = {name: float(one.explained.mean()) for name, one in found.items()}
        self.kl = float(kl.mean())

    def _explained(self, means: FloatArray, name: str) -> FloatArray:
        if name == NONE:
            return np.zeros(means.shape[0])
        start, width, optimism = self.places[name]
        scores = means[:, start + 1 : start + 1 + width]
        return means[:, start] + 0.5 * np.sum(scores**2, axis=1) - optimism

    def _made(self, value: float, of: Any) -> dict[str, float]:
        low, high = self.resampler.function(of, self.columns)
        return {"value": _rounded(value), "low": _rounded(low), "high": _rounded(high)}

    def row(self, name: str) -> dict[str, float]:
        return self._made(self.values[name], lambda means: self._explained(means, name))

    def shapley(self, feature: str) -> dict[str, float]:
        def of(means: FloatArray) -> FloatArray:
            return shapley_values(FEATURES, {name: self._explained(means, name) for name in (NONE, *self.places)})[
                feature
            ]

        return self._made(shapley_values(FEATURES, {NONE: 0.0, **self.values})[feature], of)

    def rest(self) -> dict[str, float]:
        value = self.kl - self.values[EVERYTHING]
        return self._made(value, lambda means: means[:, 0] - self._explained(means, EVERYTHING))

    def shares(self) -> dict[str, dict[str, float] | None]:
        """Return each family's part of the KL, and the rest's."""
        names = {(ALL if name == EVERYTHING else name): name for name in self.places}
        if self.kl < HARDLY:
            return dict.fromkeys((*names, "rest"))

        def of(name: str, sign: float) -> Any:
            return lambda means: (sign < 0) + sign * self._explained(means, name) / means[:, 0]

        shares: dict[str, dict[str, float] | None] = {
            label: self._made(self.values[name] / self.kl, of(name, 1.0)) for label, name in names.items()
        }
        return shares | {"rest": self._made(1 - self.values[EVERYTHING] / self.kl, of(EVERYTHING, -1.0))}


def _rounded(value: float) -> float:
    return round(value, DIGITS) + 0.0  # no -0


def _row(values: FloatArray, resampler: Resampler) -> dict[str, float]:
    low, high = resampler.mean(values)
    return {"value": _rounded(float(values.mean())), "low": _rounded(low), "high": _rounded(high)}


def _fit(one: Family) -> dict[str, Any]:
    return {
        "theta": one.theta,
        "attained": one.attained,
        "ess": float(np.median(one.size)),
        "ess_least": float(np.min(one.size)),
    }


def _own(own: Own, kl: FloatArray, resampler: Resampler) -> dict[str, Any]:
    finite = own.alpha[np.isfinite(own.alpha)]
    quartiles = np.quantile(finite, [0.25, 0.5, 0.75]).tolist() if finite.size else None
    found = {"at_most": _row(own.bound, resampler), "share": None, "quartiles": quartiles}
    if kl.mean() >= HARDLY:
        low, high = resampler.function(lambda means: means[:, 0] / means[:, 1], np.stack([own.bound, kl], axis=1))
        ends = (float(own.bound.mean() / kl.mean()), low, high)
        found["share"] = dict(zip(("value", "low", "high"), map(_rounded, ends), strict=True))
    return found | {"limits": int(np.isinf(own.alpha).sum())}


def _sizes(prompts: Sequence[Pooled]) -> dict[str, list[float]]:
    base = [np.exp(one.points.log_base - np.logaddexp.reduce(one.points.log_base)) for one in prompts]
    policy = [one.points.policy for one in prompts]
    return {name: [1.0 / float(w @ w) for w in weights] for name, weights in (("base", base), ("policy", policy))}


def verdict(result: dict[str, Any]) -> str:
    """Return in words what the change was made of, from :func:`audit_split`'s numbers."""
    kl, shares = result["kl"], result["shares"]
    if shares[SHARPENING] is None:
        return f"The policies hardly differ: KL(pi||p) = {_nats(kl)}."
    first = shares[SHARPENING]
    said = [f"KL(pi||p) = {_nats(kl)}."]
    word = "explains most of" if first["low"] > 0.5 else "does not explain" if first["high"] < 0.5 else "explains"
    tail = "the change" if word != "explains" else "a part of the change that can be more or less than half"
    said.append(f"Sharpening {word} {tail}: {_percent(first)}; with an alpha of its own for each problem at most ")
    said[-1] += f"{_percent(result['own_alpha']['share'])}."
    said.append(
        f"Reward alone {_percent(shares['reward'])}, length alone {_percent(shares['length'])}, "
        f"all three {_percent(shares[ALL])}."
    )
    if shares["rest"]["low"] > 0.5:
        said.append("Most of the change is none of the three.")
    weak = [name for name, one in result["fits"].items() if one["ess"] < LEAST_ESS]
    if weak:
        said.append(f"Too few effective samples for {', '.join(weak)}: their numbers are not to be relied on.")
    return " ".join(said)


def _nats(row: dict[str, float]) -> str:
    return f"{row['value']:.3g} nats [{row['low']:.3g}, {row['high']:.3g}]"


def _percent(share: dict[str, float]) -> str:
    value, low, high = (round(100 * share[name]) for name in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"
