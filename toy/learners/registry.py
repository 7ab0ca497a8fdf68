"""The door for learners: every one by name, each in a file of its own."""

from __future__ import annotations

from sharpen.objective.registry import Registry
from sharpen.toy.learners.entropy import adaptive_entropy, entropy_bonus
from sharpen.toy.learners.exact import mirror, natural, natural_flow, softmax, softmax_flow
from sharpen.toy.learners.matching import alpha_divergence, f_divergence, power_distillation
from sharpen.toy.learners.parts.learner import ExactLearner, Learner, SampledLearner
from sharpen.toy.learners.sampled import (
    best_of_n,
    cispo,
    dapo,
    dr_grpo,
    grpo,
    gspo,
    off_policy,
    ppo,
    reinforce,
    rloo,
    tb,
    tb_batch,
    unlikeliness,
)
from sharpen.toy.learners.success import maxrl, maxrl_order_g, nsr, pass_k, w_reinforce


def _check(part: object) -> None:
    if not isinstance(part, ExactLearner | SampledLearner):
        raise TypeError(f"an ExactLearner or a SampledLearner of sharpen.toy, not of type {type(part).__name__}")


LEARNERS: Registry[Learner] = Registry("learner", _check)

LEARNERS.register("natural")(natural.learner)
LEARNERS.register("mirror")(mirror.learner)
LEARNERS.register("softmax")(softmax.learner)
LEARNERS.register("natural-flow")(natural_flow.learner)
LEARNERS.register("softmax-flow")(softmax_flow.learner)
LEARNERS.register("reinforce")(reinforce.learner)
LEARNERS.register("rloo")(rloo.learner)
LEARNERS.register("grpo")(grpo.learner)
LEARNERS.register("ppo")(ppo.learner)
LEARNERS.register("dapo")(dapo.learner)
LEARNERS.register("off-policy")(off_policy.learner)
LEARNERS.register("tb")(tb.learner)
LEARNERS.register("tb-batch")(tb_batch.learner)
LEARNERS.register("unlikeliness")(unlikeliness.learner)
LEARNERS.register("best-of-n")(best_of_n.learner)
LEARNERS.register("dr-grpo")(dr_grpo.learner)
LEARNERS.register("gspo")(gspo.learner)
LEARNERS.register("cispo")(cispo.learner)
LEARNERS.register("maxrl")(maxrl.learner)
LEARNERS.register("maxrl-order-g")(maxrl_order_g.learner)
LEARNERS.register("pass-k")(pass_k.learner)
LEARNERS.register("nsr")(nsr.learner)
LEARNERS.register("w-reinforce")(w_reinforce.learner)
LEARNERS.register("power-distillation")(power_distillation.learner)
LEARNERS.register("alpha-divergence")(alpha_divergence.learner)
LEARNERS.register("f-divergence")(f_divergence.learner)
LEARNERS.register("entropy-bonus")(entropy_bonus.learner)
LEARNERS.register("adaptive-entropy")(adaptive_entropy.learner)
