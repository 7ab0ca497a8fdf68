"""Findings about which outcomes survive: the mode, lost support, the face of correct outcomes, the rank bias."""

from __future__ import annotations

from sharpen.toy.studies.findings_core import SMALL, Finding, Runs, Verdict, at_end, fixed_share, top_share
from sharpen.toy.sweeps.config import SweepConfig

TASK = {"mode": ("optimization",), "alpha": (0.0,), "beta_inv": (1.0,)}
MODE, LIKELIEST_CORRECT = 0, 1  # of the default problem


def _mode(seeds: int) -> dict[str, SweepConfig]:
    common = {"mode": ("optimization",), "seeds": seeds, "steps": 4000, "step_size": (0.3,), "learner": ("rloo",)}
    return {
        "wrong mode": SweepConfig.model_validate({**common, "reward": "1,3"}),
        "correct mode": SweepConfig.model_validate({**common, "reward": "0"}),
    }


def _mode_verdict(tables: dict[str, Runs]) -> Verdict:
    rewards = {name: at_end(runs, "expected_reward") for name, runs in tables.items()}
    fixed = {name: fixed_share(runs, MODE) for name, runs in tables.items()}
    holds = rewards["wrong mode"].high < SMALL and rewards["correct mode"].low > 1 - SMALL
    holds &= all(share.low > 0.9 for share in fixed.values())
    numbers = {f"E[r], {name}": found for name, found in rewards.items()}
    return Verdict(holds, numbers | {f"runs fixed at the mode, {name}": share for name, share in fixed.items()})


STEPS = (0.1, 1.0, 3.0)  # a tempered target is kept with the smallest, lost with the largest


def _support(seeds: int) -> dict[str, SweepConfig]:
    common = {"alpha": (2.0,), "steps": 400, "seeds": seeds}
    return {
        "flow": SweepConfig.model_validate({**common, "learner": ("softmax-flow",), "step_size": (3.0,), "seeds": 1}),
        "2 samples": SweepConfig.model_validate(
            {**common, "learner": ("rloo",), "group_size": (2,), "step_size": STEPS}
        ),
    }


def _support_verdict(tables: dict[str, Runs]) -> Verdict:
    flow = at_end(tables["flow"], "effective_support")
    sampled = {step: at_end(tables["2 samples"], "effective_support", step_size=step) for step in STEPS}
    fixed = {step: fixed_share(tables["2 samples"], step_size=step) for step in STEPS}
    least, most = STEPS[0], STEPS[-1]
    lost = sampled[most].high < flow.low - 0.1 and fixed[most].low > 0.5
    kept = sampled[least].low > 0.9 * flow.mean and fixed[least].mean == 0.0
    numbers = {"effective support, exact flow": flow}
    numbers |= {f"effective support, step {step:g}": found for step, found in sampled.items()}
    return Verdict(lost and kept, numbers | {f"runs collapsed, step {step:g}": share for step, share in fixed.items()})


def _face(seeds: int) -> dict[str, SweepConfig]:
    common = {**TASK, "step_size": (0.2,), "steps": 2000}
    return {
        "natural": SweepConfig.model_validate({**common, "learner": ("natural",), "seeds": 1}),
        "rloo": SweepConfig.model_validate({**common, "learner": ("rloo",), "seeds": seeds}),
    }


def _face_verdict(tables: dict[str, Runs]) -> Verdict:
    numbers = {f"KL within the face, {name}": at_end(runs, "kl_correct") for name, runs in tables.items()}
    numbers |= {f"mass of the face, {name}": at_end(runs, "face_mass") for name, runs in tables.items()}
    natural, sampled, *masses = numbers.values()
    holds = all(mass.low > 1 - SMALL for mass in masses) and natural.mean < 1e-9 and sampled.low > SMALL
    return Verdict(holds, numbers)


RANKED = ("grpo", "unlikeliness", "rloo")


def _rank(seeds: int) -> dict[str, SweepConfig]:
    common = {**TASK, "step_size": (0.1,), "steps": 1000, "group_size": (8,)}
    return {
        "sampled": SweepConfig.model_validate({**common, "learner": RANKED, "seeds": seeds}),
        "exact": SweepConfig.model_validate({**common, "learner": ("natural", "softmax"), "seeds": 1}),
    }


def _rank_verdict(tables: dict[str, Runs]) -> Verdict:
    """GRPO favours the likelier correct outcome, the unlikeliness reward does so less; RLOO and exact ones beside."""
    numbers = {
        f"KL within the face, {name}": at_end(tables[table], "kl_correct", learner=name)
        for table, names in (("sampled", RANKED), ("exact", ("softmax", "natural")))
        for name in names
    }
    grpo, unlikely, _, _, natural = numbers.values()
    top = top_share(tables["sampled"], LIKELIEST_CORRECT, learner="grpo")
    numbers["GRPO runs led by the likelier correct outcome"] = top
    holds = grpo.low > SMALL and unlikely.high < grpo.low and natural.mean < 1e-9 and top.low > 0.5
    return Verdict(holds, numbers)


FINDINGS = (
    Finding("mode", "sharpening ends at the mode of the base, whatever its reward", _mode, _mode_verdict),
    Finding(
        "support",
        "sampled tempered updates with a large step lose support that the exact flow keeps; small steps keep it",
        _support,
        _support_verdict,
    ),
    Finding(
        "face",
        "task reward ends on the face of correct outcomes; only the natural gradient keeps the base's ratios",
        _face,
        _face_verdict,
    ),
    Finding(
        "rank",
        "GRPO sharpens among correct outcomes, the unlikeliness reward does so less, the natural gradient not at all",
        _rank,
        _rank_verdict,
    ),
)
