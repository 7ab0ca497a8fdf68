"""The differential equation of which the natural gradient takes Euler's steps, followed for the time eta an update."""

from __future__ import annotations

from sharpen.toy.learners.exact.natural import natural_direction
from sharpen.toy.learners.parts.learner import ExactLearner

learner = ExactLearner(natural_direction, step_size=0.1, field="natural", flow=True)
