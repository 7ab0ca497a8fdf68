"""What a learner is: a direction of ascent on every outcome, or a loss on samples.

Axis letters: P prompts, n outcomes of a prompt, G samples of a prompt in one update, d parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from sharpen.toy.learners.parts.affine import Affine
from sharpen.toy.problems.policies import Family
from sharpen.toy.problems.setting import Setting

EPSILON = 1e-8  # Adam's, the customary value
KL_PLACES = ("k1-reward", "k2-reward", "k3-reward", "k1-loss", "k2-loss", "k3-loss")


class Parameters(NamedTuple):
    """What is trained.

    Args:
        theta: Parameters of the policy.
        log_z: log Z of each prompt, shape [P, 1]; moved only by a loss that depends on it.
    """

    theta: Array
    log_z: Array


class State(NamedTuple):
    """What an update starts from.

    Args:
        parameters: Of the policy.
        moments: State of the optimizer.
        reference: Log-probabilities of p, shape [P, n]; moves only if the objective's reference does, when the update
            after the one that is due begins.
        error: Error of the log p that the objective sees, shape [P, n].
        behaviour: log-probabilities of the policy that a ``stale`` learner samples from, shape [P, n].
        updates: Updates done.
    """

    parameters: Parameters
    moments: Any
    reference: Array
    error: Array
    behaviour: Array
    updates: Array


class Options(NamedTuple):
    """Settings of a learner that are fixed when it is compiled.

    Args:
        group_size: Samples of a prompt, G.
        optimizer: ``sgd``, ``momentum`` or ``adam``.
        epsilon: What Adam adds to the root of its averaged square, > 0, in the gradient's unit; no other reads it.
        kl: Estimator of the KL and where it stands, one of ``KL_PLACES``. ``k1-reward`` is the objective as written.
        epochs: Gradient steps on one batch, of a learner with ``several_epochs``.
        clip_low: PPO's lower clip.
        clip_high: PPO's upper clip.
        dapo_clip_high: DAPO's upper clip.
        stale: Updates for which a ``stale`` learner keeps sampling from one policy.
        importance_cap: Largest importance weight of ``off-policy``.
        rank_penalty: beta_rank of the unlikeliness reward.
        gspo_clip_low: GSPO's lower clip, of a ratio a token.
        gspo_clip_high: GSPO's upper clip.
        cispo_cap: CISPO's largest weight.
        right_weight: Weight of right samples of ``w-reinforce``, that of wrong ones being 1.
        entropy_weight: c of ``entropy-bonus``.
        entropy_gain: Weight of ``adaptive-entropy`` a nat that is missing.
        entropy_target: Nats below which it acts.
        divergence_alpha: a of ``alpha-divergence``, > 0.
        reference_moves: Whether p is ever replaced by the policy; false saves its update.
        noisy_reward: Whether a setting has noise on its rewards; false saves drawing it.
        utility: Of the success rate, the objective's.
        noisy_verifier: Whether a setting's verdicts are wrong now and then; false saves drawing them.
    """

    group_size: int = 16
    optimizer: str = "sgd"
    epsilon: float = EPSILON
    kl: str = "k1-reward"
    epochs: int = 4
    clip_low: float = 0.2
    clip_high: float = 0.2
    dapo_clip_high: float = 0.28
    stale: int = 4
    importance_cap: float = 20.0
    rank_penalty: float = 0.25
    gspo_clip_low: float = 3e-4
    gspo_clip_high: float = 4e-4
    cispo_cap: float = 5.0
    right_weight: float = 0.1
    entropy_weight: float = 0.05
    entropy_gain: float = 1.0
    entropy_target: float = 0.5
    divergence_alpha: float = 0.5
    reference_moves: bool = True
    noisy_reward: bool = True
    utility: str = "identity"
    noisy_verifier: bool = False


class Batch(NamedTuple):
    """Samples from the behaviour policy, shapes [P, G].

    Args:
        reward: The pseudo-reward without its KL pair, w_r r + (w_p - w_h) s.
        log_reference: log p.
        log_behaviour: log-probability under the policy that sampled.
        log_start: log pi before the first epoch on this batch.
        task: The part w_r r of ``reward``.
        slope: Estimate of f'(P) of a utility for each sample from the others of its group, which learners that follow
            any utility multiply ``task`` by; 1 for the identity.
        length: Of the samples, in tokens.
    """

    reward: Array
    log_reference: Array
    log_behaviour: Array
    log_start: Array
    task: Array | float = 0.0
    slope: Array | float = 1.0
    length: Array | float = 1.0


class Loss(Protocol):
    """What a sampled learner minimises, a pure JAX function.

    The mean over prompts by weight and over samples, so that its gradient is minus the learner's estimate of grad J (up
    to a positive factor where the learner has one).
    """

    def __call__(
        self, log_pi: Array, batch: Batch, weight: Array, w_h: Array, log_z: Array, options: Options, /
    ) -> Array:
        """Return the loss of a batch.

        Args:
            log_pi: log pi of the samples, shape [P, G], which is differentiated.
            batch: The samples, constants.
            weight: Of the prompts, shape [P], sum 1.
            w_h: Weight of the entropy and of the KL pair, a scalar; 0 in mode ``optimization``.
            log_z: Learned log Z of the prompts, shape [P, 1], which is differentiated too; 0 at the start.
            options: Plain Python numbers and texts.

        Returns:
            A scalar.
        """
        ...


class Direction(Protocol):
    """The direction of an exact learner's update, a pure JAX function."""

    def __call__(
        self, setting: Setting, family: Family, options: Options, state: State, theta: Array, log_pi: Array, /
    ) -> Array:
        """Return the direction of ascent, which is multiplied by eta, in the shape of ``theta``.

        Args:
            setting: The run's outcomes and weights.
            family: Of the policies.
            options: Plain Python numbers and texts.
            state: Before the update; :func:`log_reference` gives the log p in force.
            theta: Parameters, shape [P, n] for a table, which a flow moves away from the state's.
            log_pi: log pi at theta, shape [P, n].
        """
        ...


class Moments(NamedTuple):
    """Moments of one outcome's pseudo-reward R and score e_x - pi under the policy.

    Args:
        mean: E[.] under the policy, from [P, n] to [P, 1].
        reward: R, shape [P, n].
        centred: R - E[R], shape [P, n].
        extra: Variance of the noise on a sampled reward, shape [P, n].
        norms: |e_x - pi|^2, shape [P, n].
        signals: |E[R (e_x - pi)]|^2, shape [P, 1].
        group_size: G.
    """

    mean: Callable[[Array], Array]
    reward: Array
    centred: Array
    extra: Array
    norms: Array
    signals: Array
    group_size: int


@dataclass(frozen=True)
class ExactLearner:
    """A learner that sees every outcome and draws nothing.

    Args:
        direction: Where an update goes.
        step_size: eta of ``sharpen toy simulate`` where none is given.
        field: Which exact flow of the theory the direction is; None for neither. It says where phase portraits and
            limits come from.
        flow: Whether an update follows the direction for the time eta, by an adaptive Runge-Kutta method, instead of
            taking a step; a flow takes no optimizer.
        on_logits: For a table against a frozen reference, the direction as an affine function of each logit, these
            known up to a constant a prompt, from a setting and a state whose logits it does not read. No update then
            computes a policy, and many are one (`sharpen.toy.learners.parts.affine`); None if there is no such form.
    """

    direction: Direction
    step_size: float = 1.0
    field: Literal["natural", "softmax"] | None = None
    flow: bool = False
    on_logits: Callable[[Setting, State], Affine] | None = None
    exact: ClassVar[bool] = True
    several_epochs: ClassVar[bool] = False


@dataclass(frozen=True)
class SampledLearner:
    """A learner that sees G samples of each prompt in an update.

    Args:
        loss: What it minimises.
        step_size: eta of ``sharpen toy simulate`` where none is given.
        samples: Fewest samples of an update; 2 where the baseline is made of the others.
        several_epochs: Whether it takes ``options.epochs`` gradient steps on a batch.
        stale: Whether it samples from a policy that is renewed only every ``options.stale`` updates.
        needs_entropy: Whether its target exists only with w_h > 0.
        learns_log_z: Whether the loss moves ``log_z``, so that the policy alone is not its state.
        noise: tr Cov of the estimate of the gradient of a table's logits, shape [P, 1], with the KL in the reward;
            None where there is no closed form.
        enumerated: What ``sharpen.theory.estimators.exact`` calls its estimator; None if it has none.
        utility: Which utilities of an objective it follows, beside the identity: ``any``, by the slope of each sample;
            one of its own, whatever the objective says (``pass@K`` takes K from it); ``none``.
        counts_right: Whether its advantage is one of rewards 0 and 1, so that there must be such.
    """

    loss: Loss
    step_size: float = 0.2
    samples: int = 2
    several_epochs: bool = False
    stale: bool = False
    needs_entropy: bool = False
    learns_log_z: bool = False
    noise: Callable[[Moments], Array] | None = None
    enumerated: str | None = None
    utility: Literal["none", "any", "arcsin", "log", "pass@K"] = "none"
    counts_right: bool = False
    exact: ClassVar[bool] = False
    field: ClassVar[None] = None
    flow: ClassVar[bool] = False
    on_logits: ClassVar[None] = None


Learner = ExactLearner | SampledLearner


def pseudo_reward(setting: Setting, reward: Array, log_p: Array, log_pi: Array, slope: Array | float = 1.0) -> Array:
    """Return A = f' on_reward r + on_reference log p + on_policy log pi, shape [P, n], a constant for gradients.

    A noisy verifier multiplies r by t - f, up to a constant a prompt (T20).

    Args:
        setting: The weights.
        reward: r, shape [P, n].
        log_p: Shape [P, n].
        log_pi: Shape [P, n].
        slope: f'(P) of a utility, shape [P, 1] (`sharpen.toy.problems.utility.success_slope`); 1 for the identity.
    """
    told = setting.true_positive - setting.false_positive
    A = told * slope * setting.on_reward * reward + setting.on_reference * log_p + setting.on_policy * log_pi
    return jax.lax.stop_gradient(jnp.asarray(A))


def log_reference(setting: Setting, options: Options, state: State, log_pi: Array) -> Array:
    """Return the log p that the objective sees: with the reference ``policy`` that is pi at every moment."""
    if not options.reference_moves:
        return state.reference + state.error
    return jnp.where(setting.refresh_every < 0, log_pi, state.reference) + state.error
