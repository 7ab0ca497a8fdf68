"""The objective that theory, toy and llm share."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from sharpen.objective import functional
from sharpen.objective.errors import InputError
from sharpen.objective.functional import Array, Coefficients
from sharpen.objective.settings import Settings

Mode = Literal["sampling", "optimization"]
Normalization = Literal["none", "sum", "mean", "weighted_mean"]
MODES: tuple[str, ...] = ("sampling", "optimization")
NORMALIZATIONS: tuple[str, ...] = ("none", "sum", "mean", "weighted_mean")
MOST_RIGHT = 1e6  # beyond it the optimum is the limit to every digit, and products of exponents overflow
LATER = ("alpha_right", "utility")  # fields that stored objectives of older versions lack
REFERENCE_FORMS = "frozen, policy or refresh:K with a whole number K >= 1"


class Objective(Settings):
    """What training maximises: J(pi) = w_r f(E[r]) + w_p E[s] + w_h H(pi), s(x) = log p(x) / |x|^w.

    r is the task reward, p the reference policy, H entropy, |x| length in tokens; the weights follow from ``alpha``,
    ``beta_inv`` and ``mode`` (docs/objective.md). f is the identity, and w_p the same for all outcomes, unless
    ``utility`` and ``alpha_right`` say otherwise. Both are left out of what is stored while they have their defaults.
    The other names are the paper's (arXiv 2604.16259). An objective is immutable, compares by value and can be a dict
    key.

    Args:
        alpha: Exponent of the reference likelihood, finite and >= 0. The tempered optimum is p^alpha.
        beta_inv: Weight of the task reward against the KL, finite and >= 0; 0 removes the reward.
        mode: ``sampling`` keeps the entropy term (the optimum is a distribution), ``optimization`` drops it (the
            optimum is an arg max).
        normalization: How the extra likelihood term counts length: ``sum`` (w = 0), ``mean`` (w = 1),
            ``weighted_mean`` (w = ``weight``); ``none`` drops the term.
        weight: The length exponent w of ``weighted_mean``; required there and refused elsewhere.
        reference: What p is during training: ``frozen``, ``policy`` (p is the current policy) or ``refresh:K`` (p is
            replaced by the policy every K updates).
        alpha_right: Exponent of the reference likelihood for right answers (r = 1), at most 10^6, ``alpha`` being that
            of wrong ones; None for one exponent. Between them, for a partial score r, alpha + (alpha_right - alpha) r.
        utility: f of the success rate E[r]: ``identity``, ``log``, ``pass@K`` or ``arcsin``
            (:func:`sharpen.objective.functional.utility`).

    Raises:
        pydantic.ValidationError: (a ValueError) if a field is out of range or the combination has no objective.

    Example:
        >>> Objective(alpha=2.0).coefficients
        Coefficients(w_r=0.0, w_p=2.0, w_h=1.0)
        >>> Objective(alpha=2.0, beta_inv=10.0).regime
        'tilted'
    """

    alpha: float = Field(default=1.0, ge=0.0)
    beta_inv: float = Field(default=0.0, ge=0.0)
    mode: Mode = "sampling"
    normalization: Normalization = "sum"
    weight: float | None = None
    reference: str = "frozen"
    alpha_right: float | None = Field(default=None, ge=0.0, le=MOST_RIGHT)
    utility: str = "identity"

    if TYPE_CHECKING:  # pydantic makes it, of every frozen model

        def __hash__(self) -> int: ...

    @field_validator("reference")
    @classmethod
    def _known_reference(cls, reference: str) -> str:
        if not re.fullmatch(r"frozen|policy|refresh:[1-9]\d{0,8}", reference):
            raise ValueError(f"allowed: {REFERENCE_FORMS}")
        return reference

    @field_validator("utility")
    @classmethod
    def _known_utility(cls, utility: str) -> str:
        if not functional.is_utility(utility):
            raise ValueError(f"allowed: {functional.UTILITY_FORMS}")
        return utility

    @model_validator(mode="after")
    def _has_what_it_bends(self) -> Self:
        if self.utility != "identity" and self.beta_inv == 0.0:
            raise ValueError(
                f"beta_inv: got 0.0 with utility {self.utility}, allowed: a number > 0, because a utility is one of "
                "the task reward"
            )
        if self.alpha_right is not None and self.normalization == "none":
            raise ValueError(
                f"alpha_right: got {self.alpha_right} with normalization none, allowed: nothing there, because it "
                "drops the likelihood term"
            )
        return self

    @model_validator(mode="after")
    def _has_a_meaning(self) -> Self:
        if (self.weight is None) == (self.normalization == "weighted_mean"):
            raise ValueError(
                f"weight: got {self.weight} with normalization {self.normalization}, allowed: a finite number with "
                "weighted_mean and nothing otherwise"
            )
        w = self.coefficients
        if not all(abs(x) < float("inf") for x in (*w, self.right_weight)):
            raise ValueError(f"beta_inv: got {self.beta_inv}, allowed: 0 or large enough that alpha/beta_inv is finite")
        if w == Coefficients(0.0, 0.0, 0.0) and self.right_weight == 0.0:
            raise ValueError(
                "alpha: got an objective that is zero everywhere (optimization with beta_inv = 0 and no likelihood "
                "term), allowed: alpha > 0 with a normalization other than none, or beta_inv > 0"
            )
        return self

    @property
    def coefficients(self) -> Coefficients:
        """(w_r, w_p, w_h)."""
        return functional.coefficients(self.alpha, self.beta_inv, self.mode, self.normalization)

    @property
    def right_weight(self) -> float:
        """What right answers add to w_p, 0 without ``alpha_right``."""
        if self.alpha_right is None:
            return 0.0
        right = functional.coefficients(self.alpha_right, self.beta_inv, self.mode, self.normalization)
        return right.w_p - self.coefficients.w_p

    @property
    def length_exponent(self) -> float:
        """The exponent w in s(x) = log p(x) / |x|^w."""
        if self.normalization == "weighted_mean":
            assert self.weight is not None  # the validator saw to it
            return self.weight
        return 1.0 if self.normalization == "mean" else 0.0

    @property
    def needs_reward(self) -> bool:
        """Whether the objective reads rewards; one that does not never opens the answers.

        A utility and an exponent of right answers both do, the latter also without a reward term.
        """
        return self.coefficients.w_r != 0.0 or self.alpha_right is not None or self.utility != "identity"

    @property
    def reads_reference(self) -> bool:
        """Whether the reference's log-probabilities weigh in it."""
        w = self.coefficients
        return w.w_p != 0.0 or w.w_h != 0.0 or self.right_weight != 0.0

    @property
    def is_plain(self) -> bool:
        """Whether it has neither a utility nor an exponent of right answers."""
        return self.alpha_right is None and self.utility == "identity"

    def require_plain(self, who: str) -> None:
        """Refuse a utility or an exponent of right answers where only the four regimes are known.

        Args:
            who: What does not know more, for the message.

        Raises:
            InputError: the objective has one.

        Example:
            >>> Objective(alpha_right=0).require_plain("the toy")
            Traceback (most recent call last):
                ...
            sharpen.objective.errors.InputError: alpha_right: got 0.0, allowed: none for the toy, which has one exponent
        """
        if self.alpha_right is not None:
            raise InputError("alpha_right", self.alpha_right, f"none for {who}, which has one exponent")
        self.refuse_utility(who)

    def refuse_utility(self, who: str) -> None:
        """Refuse a utility other than the identity where none is known.

        Raises:
            InputError: the objective has one.
        """
        if self.utility != "identity":
            raise InputError("utility", self.utility, f"identity for {who}, which has no other utility")

    @property
    def refresh_every(self) -> int | None:
        """Updates between two replacements of p by the policy; None if p is frozen."""
        if self.reference == "frozen":
            return None
        return 1 if self.reference == "policy" else int(self.reference.removeprefix("refresh:"))

    @property
    def regime(self) -> str:
        """The regime's name in the paper's table of four, or ``task-reward+likelihood`` for the mixed one.

        A utility and an exponent of right answers do not change it.
        """
        rewarded = self.coefficients.w_r != 0.0
        if self.mode == "sampling":
            return "tilted" if rewarded else "tempered"
        if not rewarded:
            return "sharpening"
        return "task-reward" if self.coefficients.w_p == 0.0 else "task-reward+likelihood"

    def score(self, ref_logprob: Array, length: Array | None = None) -> Array:
        """Return s(x) = log p(x) / |x|^w; see :func:`sharpen.objective.functional.score`."""
        return functional.score(ref_logprob, length, self.length_exponent)

    def potential(
        self,
        *,
        reward: Array | None = None,
        ref_logprob: Array | None = None,
        length: Array | None = None,
        success: Array | None = None,
        slope: Array | None = None,
    ) -> Array:
        """Return u(x), with J(pi) = E[u] + w_h H(pi); see :func:`sharpen.objective.functional.potential`.

        Args:
            reward: r.
            ref_logprob: log p.
            length: ``|x|``.
            success: The success rate at which a utility's slope is taken. With a utility there is no potential: what
                is returned then has the gradient of J where E[r] is this, and no other.
            slope: The slope itself, instead; 0 leaves the reward term out.

        Raises:
            InputError: the objective has a utility and no success rate is given.
        """
        slope = self._reward_slope(success) if slope is None else slope
        w, exponent, right = self.coefficients, self.length_exponent, self.right_weight
        return functional.potential(w, reward, ref_logprob, length, exponent, right=right, slope=slope)

    def _reward_slope(self, success: Array | None) -> Array | None:
        """Return f' at the success rate, None for the identity."""
        if self.utility == "identity":
            return None
        if success is None:
            raise InputError("utility", self.utility, "identity: with another one what an answer is worth depends on "
                             "the success rate, which is not known here")  # fmt: skip
        return functional.utility(self.utility).slope(success)

    def pseudo_reward(
        self,
        *,
        reward: Array | None = None,
        ref_logprob: Array | None = None,
        policy_logprob: Array | None = None,
        length: Array | None = None,
        success: Array | None = None,
        slope: Array | None = None,
    ) -> Array:
        """Return the per-sample pseudo-reward that a policy gradient maximises, as a constant (stop-gradient).

        sampling: r + ((alpha - 1)/beta_inv) s + (1/beta_inv)(log p - log pi), optimization: r + (alpha/beta_inv) s;
        with beta_inv = 0 the reward and the factors 1/beta_inv are dropped. A utility multiplies r by f'(P); with an
        exponent of right answers alpha depends on r.

        Args:
            reward: Task reward r(x), shape [batch]; not read, and may be None, unless :attr:`needs_reward`.
            ref_logprob: log p(x), shape [batch], nats, summed over tokens. Needed unless w_p = w_h = 0.
            policy_logprob: log pi(x), shape [batch]. Needed in mode ``sampling``.
            length: ``|x|`` in tokens (>= 1), shape [batch], integer or floating. Needed if the exponent w is not 0.
            success: P = E_pi[r] of the prompt, a number or shape [batch]. Needed with a utility, or
            slope: An estimate of f'(P) itself, shape [batch] (:func:`sharpen.objective.counts.utility_slopes`).

        Returns:
            Shape [batch]; NumPy, JAX or PyTorch in, the same library and dtype out.

        Raises:
            ValueError: an array that the objective weighs is None.
        """
        slope = self._reward_slope(success) if slope is None else slope
        w, exponent, right = self.coefficients, self.length_exponent, self.right_weight
        return functional.pseudo_reward(
            w, reward, ref_logprob, policy_logprob, length, exponent, right=right, slope=slope
        )

    def value(
        self,
        *,
        policy_logprob: Array,
        reward: Array | None = None,
        ref_logprob: Array | None = None,
        length: Array | None = None,
    ) -> Array:
        """Return J(pi) of a policy over finitely many outcomes (last axis), differentiable in ``policy_logprob``."""
        w, exponent, right = self.coefficients, self.length_exponent, self.right_weight
        if self.utility == "identity":
            return functional.value(w, policy_logprob, reward, ref_logprob, length, exponent, right=right)
        rest = functional.value(
            w._replace(w_r=0.0), policy_logprob, reward, ref_logprob, length, exponent, right=right
        ) if w.w_p or w.w_h or right else 0.0  # fmt: skip
        return rest + w.w_r * functional.utility(self.utility).value(functional.mean(policy_logprob, reward))

    @model_serializer(mode="wrap")
    def _as_older_versions_did(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what older versions did not have while it has its default: names and hashes of runs stay."""
        fields = handler(self)
        for name in LATER:
            if fields.get(name) == type(self).model_fields[name].default:
                fields.pop(name, None)
        return fields

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; ``Objective(**d)`` gives the objective back."""
        return self.model_dump(mode="json")

    def to_flags(self) -> list[str]:
        """Return the command-line flags that name this objective.

        Example:
            >>> Objective(alpha=2.0).to_flags()
            ['--alpha', '2.0', '--beta-inv', '0.0', '--mode', 'sampling', '--normalization', 'sum', \
'--reference', 'frozen']
        """
        fields = {name: given for name, given in self.to_dict().items() if given is not None}
        return [part for name, given in fields.items() for part in (f"--{name.replace('_', '-')}", str(given))]

    def digest(self) -> str:
        """Return 12 hexadecimal digits that are equal exactly when two objectives are (stable across processes)."""
        canonical = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]
