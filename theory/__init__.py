"""What the objective does on a finite problem, exactly: optima, fixed points, flows, sequences and proofs, in NumPy.

The names below are what users may rely on. Each is imported when it is first asked for, so that this package alone
imports neither SciPy nor SymPy nor pandas. Every result with axes has a method ``frame``, its labelled pandas table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpen.objective import lazy

if TYPE_CHECKING:
    from sharpen.objective.counts import maj_at_k, pass_at_k
    from sharpen.theory import sequences
    from sharpen.theory.audit.certified import Interval, Seen
    from sharpen.theory.audit.certified import expected_reward as certified_reward
    from sharpen.theory.audit.certified import pass_at_k as certified_pass_at_k
    from sharpen.theory.audit.counted import Counted, pass_hat_k
    from sharpen.theory.audit.counted import answers as answer_changes
    from sharpen.theory.audit.deviance import Split as DevianceSplit
    from sharpen.theory.audit.deviance import split as deviance_split
    from sharpen.theory.audit.outcomes import Known, read_known
    from sharpen.theory.audit.outcomes import kl_to_base as certified_kl
    from sharpen.theory.audit.price import Calibration, pass_at_k_slope
    from sharpen.theory.audit.price import calibration as calibration_curve
    from sharpen.theory.audit.price import price as sharpening_price
    from sharpen.theory.audit.report import audit_split
    from sharpen.theory.audit.sampled import Pooled, Scored
    from sharpen.theory.core.flow import limit, softmax_field, softmax_limit, vector_field
    from sharpen.theory.core.intervals import Resampler
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.core.problem import parse_problem as problem
    from sharpen.theory.estimators.report import EstimatorReport, estimator_report
    from sharpen.theory.forecast.estimate import Estimate
    from sharpen.theory.forecast.estimate import estimate as estimate_optimum
    from sharpen.theory.forecast.report import forecast as forecast_from_samples
    from sharpen.theory.forecast.samples import Samples
    from sharpen.theory.instability.families import StationaryFamily, stationary_families
    from sharpen.theory.instability.fold import Fold, fold
    from sharpen.theory.instability.meansquare import largest_stable_step
    from sharpen.theory.instability.phase import Portrait, portrait
    from sharpen.theory.instability.points import FixedPoint
    from sharpen.theory.instability.rounds import Rounds, self_sharpening
    from sharpen.theory.instability.selfsharpening import collapse
    from sharpen.theory.instability.stationary import FixedPoints, fixed_points
    from sharpen.theory.optima.best_of_n import best_of_n, best_of_n_kl, compare_at_equal_kl, samples_to_cover
    from sharpen.theory.optima.coverage import Coverage, Prompt, crossover, read_mix
    from sharpen.theory.optima.coverage import coverage as policy_coverage
    from sharpen.theory.optima.frontier import Frontier, Hull, KlCurve, at_kl, frontier, hull, kl_curve
    from sharpen.theory.optima.limits import limits
    from sharpen.theory.optima.majority import winner_probabilities as vote
    from sharpen.theory.optima.marginal import answer_optimum, mode_conflict
    from sharpen.theory.optima.mix import CoverageReport
    from sharpen.theory.optima.mix import compare_coverage as coverage
    from sharpen.theory.optima.noise import SourceEffect, sensitivity
    from sharpen.theory.optima.optimum import Optimum, optimum
    from sharpen.theory.optima.response import Curve, TurningPoint, stops_helping, turning_points
    from sharpen.theory.optima.response import curve as response
    from sharpen.theory.optima.sensitivity import jacobian
    from sharpen.theory.optima.utilities import Solution, solutions
    from sharpen.theory.proofs.catalogue import derive, theorem

_NAMES = {
    "Problem": "sharpen.theory.core.problem:Problem",
    "problem": "sharpen.theory.core.problem:parse_problem",
    "optimum": "sharpen.theory.optima.optimum:optimum",
    "Optimum": "sharpen.theory.optima.optimum:Optimum",
    "limits": "sharpen.theory.optima.limits:limits",
    "vector_field": "sharpen.theory.core.flow:vector_field",
    "softmax_field": "sharpen.theory.core.flow:softmax_field",
    "limit": "sharpen.theory.core.flow:limit",
    "softmax_limit": "sharpen.theory.core.flow:softmax_limit",
    "response": "sharpen.theory.optima.response:curve",
    "Curve": "sharpen.theory.optima.response:Curve",
    "turning_points": "sharpen.theory.optima.response:turning_points",
    "TurningPoint": "sharpen.theory.optima.response:TurningPoint",
    "stops_helping": "sharpen.theory.optima.response:stops_helping",
    "kl_curve": "sharpen.theory.optima.frontier:kl_curve",
    "KlCurve": "sharpen.theory.optima.frontier:KlCurve",
    "at_kl": "sharpen.theory.optima.frontier:at_kl",
    "frontier": "sharpen.theory.optima.frontier:frontier",
    "Frontier": "sharpen.theory.optima.frontier:Frontier",
    "hull": "sharpen.theory.optima.frontier:hull",
    "Hull": "sharpen.theory.optima.frontier:Hull",
    "best_of_n": "sharpen.theory.optima.best_of_n:best_of_n",
    "best_of_n_kl": "sharpen.theory.optima.best_of_n:best_of_n_kl",
    "compare_at_equal_kl": "sharpen.theory.optima.best_of_n:compare_at_equal_kl",
    "samples_to_cover": "sharpen.theory.optima.best_of_n:samples_to_cover",
    "Prompt": "sharpen.theory.optima.coverage:Prompt",
    "Coverage": "sharpen.theory.optima.coverage:Coverage",
    "policy_coverage": "sharpen.theory.optima.coverage:coverage",
    "crossover": "sharpen.theory.optima.coverage:crossover",
    "read_mix": "sharpen.theory.optima.coverage:read_mix",
    "coverage": "sharpen.theory.optima.mix:compare_coverage",
    "CoverageReport": "sharpen.theory.optima.mix:CoverageReport",
    "vote": "sharpen.theory.optima.majority:winner_probabilities",
    "answer_optimum": "sharpen.theory.optima.marginal:answer_optimum",
    "mode_conflict": "sharpen.theory.optima.marginal:mode_conflict",
    "sensitivity": "sharpen.theory.optima.noise:sensitivity",
    "SourceEffect": "sharpen.theory.optima.noise:SourceEffect",
    "jacobian": "sharpen.theory.optima.sensitivity:jacobian",
    "fixed_points": "sharpen.theory.instability.stationary:fixed_points",
    "FixedPoint": "sharpen.theory.instability.points:FixedPoint",
    "FixedPoints": "sharpen.theory.instability.stationary:FixedPoints",
    "stationary_families": "sharpen.theory.instability.families:stationary_families",
    "StationaryFamily": "sharpen.theory.instability.families:StationaryFamily",
    "self_sharpening": "sharpen.theory.instability.rounds:self_sharpening",
    "Rounds": "sharpen.theory.instability.rounds:Rounds",
    "collapse": "sharpen.theory.instability.selfsharpening:collapse",
    "fold": "sharpen.theory.instability.fold:fold",
    "Fold": "sharpen.theory.instability.fold:Fold",
    "largest_stable_step": "sharpen.theory.instability.meansquare:largest_stable_step",
    "solutions": "sharpen.theory.optima.utilities:solutions",
    "Solution": "sharpen.theory.optima.utilities:Solution",
    "portrait": "sharpen.theory.instability.phase:portrait",
    "Portrait": "sharpen.theory.instability.phase:Portrait",
    "estimator_report": "sharpen.theory.estimators.report:estimator_report",
    "EstimatorReport": "sharpen.theory.estimators.report:EstimatorReport",
    "theorem": "sharpen.theory.proofs.catalogue:theorem",
    "derive": "sharpen.theory.proofs.catalogue:derive",
    "forecast_from_samples": "sharpen.theory.forecast.report:forecast",
    "Samples": "sharpen.theory.forecast.samples:Samples",
    "estimate_optimum": "sharpen.theory.forecast.estimate:estimate",
    "Estimate": "sharpen.theory.forecast.estimate:Estimate",
    "Known": "sharpen.theory.audit.outcomes:Known",
    "read_known": "sharpen.theory.audit.outcomes:read_known",
    "certified_kl": "sharpen.theory.audit.outcomes:kl_to_base",
    "Interval": "sharpen.theory.audit.certified:Interval",
    "Seen": "sharpen.theory.audit.certified:Seen",
    "certified_reward": "sharpen.theory.audit.certified:expected_reward",
    "certified_pass_at_k": "sharpen.theory.audit.certified:pass_at_k",
    "audit_split": "sharpen.theory.audit.report:audit_split",
    "Pooled": "sharpen.theory.audit.sampled:Pooled",
    "Scored": "sharpen.theory.audit.sampled:Scored",
    "deviance_split": "sharpen.theory.audit.deviance:split",
    "DevianceSplit": "sharpen.theory.audit.deviance:Split",
    "Counted": "sharpen.theory.audit.counted:Counted",
    "pass_hat_k": "sharpen.theory.audit.counted:pass_hat_k",
    "answer_changes": "sharpen.theory.audit.counted:answers",
    "Resampler": "sharpen.theory.core.intervals:Resampler",
    "Calibration": "sharpen.theory.audit.price:Calibration",
    "calibration_curve": "sharpen.theory.audit.price:calibration",
    "sharpening_price": "sharpen.theory.audit.price:price",
    "pass_at_k_slope": "sharpen.theory.audit.price:pass_at_k_slope",
    "pass_at_k": "sharpen.objective.counts:pass_at_k",
    "maj_at_k": "sharpen.objective.counts:maj_at_k",
    "sequences": "sharpen.theory.sequences",
}

__getattr__, __dir__, _ = lazy.exports(__name__, _NAMES)
__all__ = [  # the same names, where a type checker reads them
    "Calibration",
    "Counted",
    "Coverage",
    "CoverageReport",
    "Curve",
    "DevianceSplit",
    "Estimate",
    "EstimatorReport",
    "FixedPoint",
    "FixedPoints",
    "Fold",
    "Frontier",
    "Hull",
    "Interval",
    "KlCurve",
    "Known",
    "Optimum",
    "Pooled",
    "Portrait",
    "Problem",
    "Prompt",
    "Resampler",
    "Rounds",
    "Samples",
    "Scored",
    "Seen",
    "Solution",
    "SourceEffect",
    "StationaryFamily",
    "TurningPoint",
    "answer_changes",
    "answer_optimum",
    "at_kl",
    "audit_split",
    "best_of_n",
    "best_of_n_kl",
    "calibration_curve",
    "certified_kl",
    "certified_pass_at_k",
    "certified_reward",
    "collapse",
    "compare_at_equal_kl",
    "coverage",
    "crossover",
    "derive",
    "deviance_split",
    "estimate_optimum",
    "estimator_report",
    "fixed_points",
    "fold",
    "forecast_from_samples",
    "frontier",
    "hull",
    "jacobian",
    "kl_curve",
    "largest_stable_step",
    "limit",
    "limits",
    "maj_at_k",
    "mode_conflict",
    "optimum",
    "pass_at_k",
    "pass_at_k_slope",
    "pass_hat_k",
    "policy_coverage",
    "portrait",
    "problem",
    "read_known",
    "read_mix",
    "response",
    "samples_to_cover",
    "self_sharpening",
    "sensitivity",
    "sequences",
    "sharpening_price",
    "softmax_field",
    "softmax_limit",
    "solutions",
    "stationary_families",
    "stops_helping",
    "theorem",
    "turning_points",
    "vector_field",
    "vote",
]
