"""The door for learners: every one by name, each in a file of its own."""

from __future__ import annotations

from sharpen.objective.registry import Registry
from sharpen.toy.learners.exact import mirror, natural, natural_flow, softmax, softmax_flow
from sharpen.toy.learners.parts.learner import ExactLearner, Learner, SampledLearner
from sharpen.toy.learners.sampled import (
    best_of_n,
    dapo,
    grpo,
    off_policy,
    ppo,
    reinforce,
    rloo,
    tb,
    tb_batch,
    unlikeliness,
)


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
