"""Which formula stands at which place of a statement: by hand, as every one of them is true at any place."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from sharpen.theory.proofs.catalogue import MODULES, theorem
from sharpen.theory.proofs.result import Result

# Words and the beginning of the formula beside them; between the two is what `...` stands for.
SAID = {
    "T1": [
        "the only maximum of J is pi^*_k =",
        "with u = ",
        "it is worth J^* = w_h*log(Z)",
        "loses by its divergence: -J + J^* = w_h*KL(pi || pi^*)",
    ],
    "T2": [
        "of best potential u, is optimal: u_max - ",
        "The natural gradient, d/dt (pi_k(t)) = ",
        "keeps the odds inside the face, (d/dt (log(",
        "ends at the start q conditioned on it: lim[t -> oo] (q_k/(q_face + ",
        "the mode of p, and its label decides: lim[t -> oo] (E[r]) = r_1",
    ],
    "T3": [
        "The optimum pi^*_k = exp(beta_inv*r_k)*p_k^alpha/Z",
        "As beta_inv goes to its limit only outcomes of best reward are left, lim[beta_inv -> oo]",
        "with the odds ((p_j/p_k)^alpha",
        "As alpha does, for beta_inv left out, only outcomes of best likelihood are left, lim[alpha -> oo] (exp(",
        "all alike: lim[alpha -> oo] (1/",
        "And (pi^*_k at alpha = 1, beta_inv = 0) = p_k",
    ],
    "T4": [
        "Under the optimum d/dalpha (E[r]) = Cov(r, log p), and d/dbeta_inv (E[r]) = Var(r)",
        "the task reward can only help",
        "first rises, (d/dalpha (E[r]) at alpha = 1) > 0, and then falls, (d/dalpha (E[r]) at alpha = 3) < 0",
    ],
    "T5": [
        "whose sequences are likely: d/dalpha (E[r]) = ",
        "of mass A spread evenly over s sequences weighs S_even = ",
        "it begins with (share at alpha = 1) = 3/5, and its odds are even at (log(right/wrong) at ",
        "its optimum is pi^*_k = A_k^(alpha - 1)*p_k/Z, an answer then weighs S_a = A^alpha",
        "of one with more mass rise",
    ],
    "T6": [
        "towards right outcomes, sum_i(exp(alpha*ell_i + beta_inv)) = ",
        "With the weights S_r and S_w of right and wrong ones under the power, pass@k = 1 - (1 - a)^k, and of the "
        "optimum (pass@k at a = E[r]) = ",
        "From c right ones of N samples the share of failing subsets has the mean E(binomial(N - c, k)",
        "the plug-in reports too little",
        "A tie is shared in parts Integral(",
        "a prompt that can be solved will be, lim[k -> oo] ((1 - a)^k) = 0",
        "is overtaken, lim[k -> oo] (w_1/",
        "from k = 3 on",
    ],
    "T7": [
        "The optimum's Jacobian is d/dell_j (pi^*_k) = ",
        "of the log-likelihoods of up to epsilon change it in total variation by max TV = tanh(alpha*epsilon/2)",
        "lim[alpha -> oo] (tanh(alpha*epsilon/2)) = 1: the mode flips",
        "of the reward change the tilted optimum by max TV_r = tanh(beta_inv*epsilon/2), and lim[epsilon -> 0]",
    ],
    "T8": [
        "of probabilities p, with q_go for the chance of going on",
        "with the ratio rho = ... and the mean E[L] = rho/(1 - rho)",
        "For a ratio of 1/(g + 1) the power exists, for one of g + 1 it does not exist",
        "At the reference itself (d/dalpha (log(rho)) at alpha = 1) = log(q_go) - H(p) and (d/dalpha (E[L]) at alpha",
        "with 1/20 for the chance to stop and tokens that have p = 2/5",
        "(E[L] at alpha = 1) = 19 becomes round E[L]_5/4 = 19/10; and where (rho at alpha = 19/20) > 1 the power does",
    ],
    "T9": [
        "of transitions A and stops e",
        "the entrywise power of A has rho < 1",
        "The partition vector obeys (1 - B)*v = e",
        "its Doob transform, P(t | s) = B_st*v_t/v_s with P(stop | s) = e_s/v_s: a sequence gets P(x) = ",
        "they differ by KL = ... and gap in E[r] = ",
    ],
    "T10": [
        "as soon as e >= max A_0t",
        "has the supremum of sup log p / |x| = ... is Karp's max_v(min_k(",
        "bring the average to the cycle's, lim[k -> oo] ",
        "approached by endless repetition and not attained: log p / |x| < best_cycle",
    ],
    "T11": [
        "k rounds of the map F give F^k(p)_k = ",
        "the uniform policies on the supports, sum_s(binomial(n, s)) = 2^n - 1 of them, and at one every policy: (odds",
        "Along a direction v inside the support it has the eigenvalue in sum_j(v_j*DF_kj) = alpha*v_k; a lost outcome",
        "(exp(-a*x)) = 0 for exponents above one and lim[x -> oo] (exp(b*x)) = oo for those below",
        "a vertex attracts, the uniform policy repels and any policy between them is a saddle",
        "go with the exponent, lim[A -> oo] ",
        "Below one a vertex repels and the uniform policy attracts",
    ],
    "T12": [
        "In logits the natural gradient is A up to a constant",
        "the replicator equation, dpi_k/dt = ",
        "mirror descent is its Euler step, (d/deta (log rho_k/pi_k) at eta = 0) = ",
        "The softmax gradient g_k puts a second factor pi_k in front, dpi_k/ds = ",
        "returns only at order 2 of its probability",
        "The objective goes up along both, along the first by dJ/dt = Var(A)",
        "Both rest where A is constant",
        "the replicator has the eigenvalue in Df v_k = -w_h*v_k",
        "the rate of a lost outcome has no bound, lim[x -> oo] (rate) = oo; without entropy it is u_k - ",
    ],
    "T13": [
        "has the gradient as mean, E[g_j] = dJ/dtheta_j",
        "for RLOO on two outcomes E[g^2] = ",
        "with a probability of first order there, lim[epsilon -> 0] (P(moves)/epsilon) = G",
        "it moves only towards the better one; in pairs a step of the log-odds at x takes E[wait] = ",
        "before the other with h = ... for s = ",
        "lim[t -> oo] (sum of chances) = oo, so with rewards of one sign c > 0 it leaves again",
    ],
    "T14": [
        "differentiated in the loss: E[k1 in reward] = dKL(pi || p)_j, E[k1 in loss] = 0, E[k2 in loss] = dKL(pi || "
        "p)_j, E[k3 in loss] = dKL(p || pi)_j, E[k3 in reward] = ",
        "k2 in the reward is short",
        "RLOO has the mean E[RLOO] = dJ_j for any G, and with the mean of the whole group as baseline it is E[group",
        "By GRPO's division by the deviation the direction is turned",
        "with unequal lengths, it is turned",
    ],
    "T15": [
        "With the weights R and W of the right and wrong",
        "the power sums s and t of those below the frontier, and d + s + t for the sum",
        "E[r] >= R/(R + W + d + s + t) and E[r] <= (R + (B + 1)*(d + s + t))/(R + W + (B + 1)*(d + s + t))",
        "the unseen part has no bound: lim[m -> oo] ",
    ],
    "T16": [
        "matches its feature, as d/dtheta (L) = ",
        "is the only one, as d^2/(dtheta^2) (L) = -Var_q(f)",
        "with another feature KL(pi || q) - KL(pi || s) = KL(s || q): so",
        "For the feature ell_i the family is the powers, exp(theta*ell_i + ell_i) = ",
    ],
    "T17": [
        "With the exponents alpha_right and alpha_wrong of right and wrong answers, u = ",
        "so log odds_right = alpha_right*(",
        "and log odds_wrong = alpha_wrong*(",
        "at 0 of the first, (log odds_right at alpha_right = 0) = 0",
        "has the slope d/dalpha_right (E[r]) = Cov(r, r log p)",
    ],
    "T18": [
        "is a tilt, as KL(pi || p) - KL(q || p) = KL(pi || q)",
        "up to a base of log-odds x_fold = -2*sqrt(1 + beta^(-2)) + 2*asinh(beta); there P_fold = ",
        "the divergence's slope is lost against the utility's, lim[epsilon -> 0] ",
    ],
    "T19": [
        "to the order G - 1 if all-wrong groups are set to zero, E_zero = slope_zero",
        "to the order G if they count as a loss, E_minus = slope_minus. In pairs (slope_zero at G = 2) = 1",
    ],
    "T20": [
        "A verifier with errors gives E[verdict] = f + (-f + t)*r_i, so dE[verdict] = (-f + t)*dE[r]",
        "With g > 0 the success rate rises, with -g < 0 it falls",
        "The signal is lost where the rates meet, lim[g -> 0] ",
    ],
    "T21": [
        "forecast the sharpened policy, ... = E[r], and so many of them count as one: ",
        "= sum_i(exp((2*alpha - 1)*ell_i))/sum_i(exp(alpha*ell_i))^2",
        "the slope at the reference, (d/dalpha (E[r]) at alpha = 1) = Cov_p(r, log p)",
    ],
    "T22": [
        "as d/dalpha (exp(-alpha*m)*D) = ",
        "and V_after = V_before - 1, by induction",
        "goes up with the likelihood, sharpening can only help",
    ],
    "T23": [
        "gains (d/dt (E_t[r]) at t = 0) = Cov_p(r, h) and spends (d^2/(dt^2) (KL_t) at t = 0)/2 = Var_p(h)/2 of",
        "over the gain by the reward is ratio = rho",
        "beyond what its divergence buys: KL(pi || p) - kl(A || B) = KL_right + KL_wrong",
    ],
    "T24": [
        "takes 1/K of the diversity in every round, E[D_next] = (1 - 1/K)*D",
        "of two outcomes of masses a and 1 - a after T rounds, by ",
        "that draws K samples loses a mode of mass q with a chance of no more than a power of this, log rate = ",
        "4*q*(1 - q) < 1",
    ],
    "T25": [
        "pass@k has the slope d/dalpha (1 - (1 - q)^k) = k*(1 - q)^(k - 1)*Cov_q(r, log p) on each prompt",
        "for many those that are solved seldom: lim[k -> oo] ",
    ],
    "T26": [
        "all advantages are zero, A_k = 0: it has no noise",
        "of masses m and 1 - m, in groups of G, gradient ascent multiplies the mean square by factor = ",
        "below eta^* = ",
        "a deviation settles, above it leaves",
        "that of the exact gradient, lim[G -> oo] (eta^*) = 1/(m*(1 - m)); for many tokens lim[T -> oo] "
        "(T*eta^*) = (G - 1)",
        "without epsilon makes the same step of all multiples of the gradients, (step at epsilon = 0) = eta*m_t/r_t",
        "keeps the floor 4*eta^2*(1 - q)*q > 0; for gradients far below epsilon it is gradient ascent with "
        "eta_slow = eta/epsilon, lim[a -> 0] ",
    ],
}


@pytest.mark.parametrize("name", MODULES)
def test_what_each_statement_says(name: str, derived: Callable[..., Result]) -> None:
    said, place = str(derived(theorem(name), 0).statement), 0
    for phrase in SAID[name]:
        pattern = ".*?".join(re.escape(part.strip()) for part in phrase.split(" ... "))
        found = re.compile(pattern).search(said, place)
        assert found is not None, f"{phrase!r} is not in {said[place:]!r}"
        place = found.end()
