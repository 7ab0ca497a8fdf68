"""The differential equation of which the softmax gradient takes Euler's steps, followed for the time eta an update."""

from __future__ import annotations

from sharpen.toy.learners.exact.softmax import softmax_direction
from sharpen.toy.learners.parts.learner import ExactLearner

learner = ExactLearner(softmax_direction, step_size=1.0, field="softmax", flow=True)
