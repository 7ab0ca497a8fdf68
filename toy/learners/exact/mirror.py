"""Mirror descent with the entropy as mirror map: for separate logits the natural gradient itself."""

from __future__ import annotations

from sharpen.toy.learners.exact.natural import learner

__all__ = ["learner"]
