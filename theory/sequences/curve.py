"""How the mean length of p^alpha depends on alpha: the knife edge at alpha = 1."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharpen.objective import InputError
from sharpen.theory.core.frames import Rows
from sharpen.theory.sequences.iid import IidModel
from sharpen.theory.sequences.laws import length_variance, mean_length
from sharpen.theory.sequences.model import MarkovModel
from sharpen.theory.sequences.power import normalisable, power, temperature
from sharpen.theory.sequences.spectrum import Spectrum, critical_alpha

NEAREST = 5e-4  # how near a curve comes to the critical alpha, as a part of its range


@dataclass(frozen=True)
class LengthPoint:
    """Length at one alpha, in tokens before the stop.

    Attributes:
        alpha: The exponent.
        log_continuation: log of the continuation ratio rho(alpha); minus infinity where lengths are bounded.
        normalisable: Whether p^alpha exists.
        mean: Mean length under p^alpha; infinity where it does not exist.
        std: Its standard deviation, or infinity.
        temperature_mean: Mean length at token-level temperature 1/alpha; infinity if it may never stop.
    """

    alpha: float
    log_continuation: float
    normalisable: bool
    mean: float
    std: float
    temperature_mean: float

    def row(self) -> dict[str, Any]:
        """Return the point as a row of a table, by the names that ``sharpen theory length --json`` has."""
        return {
            "alpha": self.alpha,
            "log_continuation_ratio": self.log_continuation,
            "normalisable": self.normalisable,
            "mean_length": self.mean,
            "std_length": self.std,
            "temperature_mean_length": self.temperature_mean,
        }


class LengthCurve:
    """Lengths of p^alpha of one model as a function of alpha.

    Args:
        model: Independent tokens (closed forms) or a Markov model (linear solves).
    """

    def __init__(self, model: IidModel | MarkovModel) -> None:
        self.model = model
        self._spectrum = Spectrum(model) if isinstance(model, MarkovModel) else None
        self.critical_alpha = model.critical_alpha if isinstance(model, IidModel) else critical_alpha(self._known)

    @property
    def _known(self) -> Spectrum:
        assert self._spectrum is not None  # only asked for Markov models
        return self._spectrum

    def point(self, alpha: float) -> LengthPoint:
        """Return the lengths at one alpha.

        Raises:
            InputError: alpha is not a finite number >= 0, or a start state of the model cannot stop.
        """
        if not 0.0 <= alpha < math.inf:
            raise InputError("alpha", alpha, "a finite number >= 0")
        model = self.model
        if isinstance(model, IidModel):
            return LengthPoint(
                alpha,
                model.log_continuation(alpha),
                model.normalisable(alpha),
                model.mean_length(alpha),
                model.std_length(alpha),
                model.temperature_mean_length(alpha),
            )
        ratio, exists = self._known.bracket(alpha).middle, normalisable(self._known, alpha)
        cool = mean_length(temperature(model, alpha))
        if not exists:
            return LengthPoint(alpha, ratio, False, math.inf, math.inf, cool)
        policy = power(model, alpha, self._known).policy
        std = math.sqrt(max(0.0, length_variance(policy)))
        return LengthPoint(alpha, ratio, True, mean_length(policy), std, cool)

    def points(self, alphas: Iterable[float]) -> Rows[LengthPoint]:
        """Return the lengths at each alpha, whose method ``frame`` is their table.

        Raises:
            InputError: as :meth:`point`.
        """
        return Rows(self.point(float(alpha)) for alpha in alphas)

    def sample(self, top: float, count: int = 60) -> Rows[LengthPoint]:
        """Return points from just above the critical alpha (or from 0) to ``top``, dense near the critical one.

        Raises:
            InputError: ``top`` is not above the critical alpha.
        """
        bottom = self.critical_alpha
        if not (0.0 if bottom is None else bottom) < top < math.inf:
            raise InputError("alphas", top, f"a range that ends above {0.0 if bottom is None else bottom:.6g}")
        if bottom is None:
            return self.points(np.linspace(0.0, top, count))
        steps = np.geomspace(NEAREST, 1.0, count)
        return self.points(bottom + (top - bottom) * steps)
