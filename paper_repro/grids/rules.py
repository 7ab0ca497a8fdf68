"""What a study of models that differ in one property decides by, declared in its grid before its first run."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sharpen.objective.settings import Name, Settings, Text

Share = Annotated[float, Field(gt=0, lt=1)]
Prefix = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*-$")]

PICKED = re.compile(r"^(?P<before>\s*settings: &study )(?P<line>.*)$", re.MULTILINE)  # what a search fills in


def rules_hash(text: str) -> str:
    r"""Return 16 hexadecimal digits of what a grid file declares, without what its search fills in and comments.

    Example:
        >>> rules_hash("a:\n  settings: &study {x: 1}\n") == rules_hash("a:  # !\n  settings: &study {x: 2}\n")
        True
        >>> rules_hash("a: 1\n") == rules_hash("a: 2\n")
        False
    """
    import yaml

    try:
        declared = yaml.safe_load(PICKED.sub(r"\g<before>{}", text))
    except yaml.YAMLError:
        declared = text
    return hashlib.sha256(json.dumps(declared, sort_keys=True, default=str).encode()).hexdigest()[:16]


class Member(Settings):
    """One base model of the study.

    Args:
        prefix: Of the names of its arms.
        likeliest: Whether its likeliest answers are right; ``neither``: as often as not.
        right_answers: Whether the right answers are mostly short.
        delta: Where it stands on the dial, for claims about all its points.
        base: pass@1 of the model as it was made, exact.
        sharpened: Accuracy of p^alpha of the model as it was made, by alpha, exact; ``mode``: of the likeliest answers.
    """

    prefix: Prefix
    likeliest: Literal["right", "wrong", "neither"]
    right_answers: Literal["short", "long", "both"]
    base: Share
    sharpened: dict[str, float]
    delta: float | None = None


class Arms(Settings):
    """Names of the arms without the member's prefix.

    Args:
        control: alpha = 1 without a reward: its optimum is the base model. It is taken off every other arm.
        sharpening: The arm of the primary contrasts.
        tempered: A tempered arm.
        tempered_alpha: Its exponent.
        task_reward: The task reward.
    """

    control: Name
    sharpening: Name
    tempered: Name
    tempered_alpha: float
    task_reward: Name


class Optimiser(Settings):
    """How the optimiser of all arms is chosen, from runs that nothing else uses.

    Args:
        prefix: How the names of these runs begin; then follows the candidate, then the member's prefix.
        candidates: What is tried, smaller rates first: the first of equals wins.
        stays_kl: KL to the base, nats, up to which the control counts as at the base.
        stays_accuracy: Likewise the change of held-out pass@1 (of 512 answers before and after: .024 by chance).
    """

    prefix: Prefix
    candidates: dict[Name, dict[str, float]] = Field(min_length=1)
    stays_kl: float = Field(gt=0)
    stays_accuracy: Share


class Null(Settings):
    """What simulation says of the rules; a test computes it again.

    Args:
        times: Simulated studies.
        any_primary: Chance that some primary contrast is decided where there is no effect.
        power: Chance that one is decided, with the right sign, by its size; the other three have no effect.
        collapse: Chance that an arm counts as collapsed whose runs differ from the base by seeds and samples only.
        falls_back: The same of counting as falling back.
        falls_back_power: Chance of it where every run ends so far lower.
        old_rule: The same of the first study's rule, a largest fall of 0.1 over seeds, by number of seeds.
        slope: Chance that a positive slope in delta counts as there, by its size; None without members on the dial.
    """

    times: int = Field(ge=1)
    any_primary: float
    power: dict[str, float]
    collapse: float
    falls_back: float
    falls_back_power: dict[str, float]
    old_rule: dict[str, float]
    slope: dict[str, float] | None = None


class Rules(Settings):
    """Members, arms and thresholds by which the claims are decided; docs/paper.md has the rules in words.

    Args:
        members: By model.
        arms: Those of each.
        search: Of the optimiser; None where an earlier stage picked it.
        seeds: Least number of common seeds of a comparison that decides.
        significance: Of p-values that Holm has corrected over the primary contrasts.
        effect: Smallest difference in pass@1 that matters.
        null_margin: How far the control may be from the base in pass@1.
        forecast_margin: How far the tempered arm may be from its forecast in pass@1.
        coverage: Measure of what a policy can reach.
        coverage_margin: Loss of it that counts as none.
        never: Level of the problems that the base does not solve.
        new_skill: Share of them that has to be solved for a new skill.
        collapse_share: A run has collapsed that ends below this share of the base's pass@1 ...
        collapse_distinct: ... or with at most so many different responses of all samples of a problem, on average.
        collapsed_seeds: An arm collapses if more than this share of its seeds does.
        falls_back: An arm falls back if its mean fall below its best checkpoint exceeds the control's by more, p < .05.
        matched_kl: KL to the base, nats, at which arms are compared besides, where both reach it.
        simulated: Rates of these rules without an effect, and their power.
    """

    members: dict[Name, Member] = Field(min_length=1)
    arms: Arms
    search: Optimiser | None = None
    seeds: int = Field(ge=2)
    significance: Share
    effect: Share
    null_margin: Share
    forecast_margin: Share
    coverage: Annotated[str, Field(pattern=r"^pass@\d+$")]
    coverage_margin: Share
    never: tuple[Text, ...]
    new_skill: Share
    collapse_share: Share
    collapse_distinct: float = Field(gt=1)
    collapsed_seeds: Share
    falls_back: Share
    matched_kl: tuple[float, ...] = Field(min_length=1)
    simulated: Null

    @model_validator(mode="after")
    def _members_are_told_apart(self) -> Self:
        prefixes = [member.prefix for member in self.members.values()]
        if any(a is not b and b.startswith(a) for a in prefixes for b in prefixes):
            raise ValueError(f"members: got the prefixes {', '.join(prefixes)}, allowed: none that begins another")
        return self
