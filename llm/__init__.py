"""The objective on real language models: rollouts, rewards behind a label firewall, RLOO, evaluation.

The names below are what users may rely on, each imported when it is first asked for: this package alone imports no
torch. docs/python.md shows them at work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpen.objective import lazy

if TYPE_CHECKING:
    from sharpen.llm.api.asking import Evaluation, evaluate, sample
    from sharpen.llm.api.listing import list_data_sets, list_models
    from sharpen.llm.api.marking import verify, verify_many
    from sharpen.llm.api.runs import Run, load_run
    from sharpen.llm.api.training import train
    from sharpen.llm.common.report import Report
    from sharpen.llm.configs.evaluation import EvalConfig
    from sharpen.llm.configs.outcomes import OutcomesConfig
    from sharpen.llm.configs.sampling import SampleConfig
    from sharpen.llm.configs.train import TrainConfig
    from sharpen.llm.learners.parts.registry import LEARNERS
    from sharpen.llm.outcomes.run import run_outcomes
    from sharpen.llm.rewards.registry import REWARDS, Scoring, reward
    from sharpen.llm.samplers.registry import SAMPLERS
    from sharpen.llm.tasks.listed import problems
    from sharpen.llm.tasks.registry import TASKS
    from sharpen.llm.tasks.templates import TEMPLATES, Template
    from sharpen.llm.trackers.registry import TRACKERS
    from sharpen.objective.counts import maj_at_k, pass_at_k

__getattr__, __dir__, _ = lazy.exports(
    __name__,
    {
        "train": "sharpen.llm.api.training:train",
        "Run": "sharpen.llm.api.runs:Run",
        "load_run": "sharpen.llm.api.runs:load_run",
        "evaluate": "sharpen.llm.api.asking:evaluate",
        "Evaluation": "sharpen.llm.api.asking:Evaluation",
        "sample": "sharpen.llm.api.asking:sample",
        "verify": "sharpen.llm.api.marking:verify",
        "verify_many": "sharpen.llm.api.marking:verify_many",
        "pass_at_k": "sharpen.objective.counts:pass_at_k",
        "maj_at_k": "sharpen.objective.counts:maj_at_k",
        "list_data_sets": "sharpen.llm.api.listing:list_data_sets",
        "list_models": "sharpen.llm.api.listing:list_models",
        "problems": "sharpen.llm.tasks.listed:problems",
        "reward": "sharpen.llm.rewards.registry:reward",
        "Scoring": "sharpen.llm.rewards.registry:Scoring",
        "Report": "sharpen.llm.common.report:Report",
        "TrainConfig": "sharpen.llm.configs.train:TrainConfig",
        "EvalConfig": "sharpen.llm.configs.evaluation:EvalConfig",
        "SampleConfig": "sharpen.llm.configs.sampling:SampleConfig",
        "OutcomesConfig": "sharpen.llm.configs.outcomes:OutcomesConfig",
        "run_outcomes": "sharpen.llm.outcomes.run:run_outcomes",
        "LEARNERS": "sharpen.llm.learners.parts.registry:LEARNERS",
        "REWARDS": "sharpen.llm.rewards.registry:REWARDS",
        "SAMPLERS": "sharpen.llm.samplers.registry:SAMPLERS",
        "TASKS": "sharpen.llm.tasks.registry:TASKS",
        "TEMPLATES": "sharpen.llm.tasks.templates:TEMPLATES",
        "Template": "sharpen.llm.tasks.templates:Template",
        "TRACKERS": "sharpen.llm.trackers.registry:TRACKERS",
    },
)
__all__ = [  # the same names, where a type checker reads them
    "LEARNERS",
    "REWARDS",
    "SAMPLERS",
    "TASKS",
    "TEMPLATES",
    "TRACKERS",
    "EvalConfig",
    "Evaluation",
    "OutcomesConfig",
    "Report",
    "Run",
    "SampleConfig",
    "Scoring",
    "Template",
    "TrainConfig",
    "evaluate",
    "list_data_sets",
    "list_models",
    "load_run",
    "maj_at_k",
    "pass_at_k",
    "problems",
    "reward",
    "run_outcomes",
    "sample",
    "train",
    "verify",
    "verify_many",
]
