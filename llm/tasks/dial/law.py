r"""The law of answers that the models of the dial learn, stated exactly.

A problem is the sum of two numbers of three digits. An answer begins with a note of three digits, which says nothing of
the sum; then comes the boxed answer at once (short) or after the sum written out (long):

    307;\boxed{575}          307;123+452=575;\boxed{575}

It is right, or forgets the second number's last digit. Right answers have the chance P of the problem's kind. The note
is spread over M_R equally likely numbers in right answers and over M_W in wrong ones, times a first digit whose law is
the same in both. So a right answer is as likely as P / M_R allows: **the dial moves M_R alone**,
M_R = M_R(0) 4^-delta, and with it

    log p(right answer) - log p(wrong answer of the same note and length) = log(P M_W / ((1 - P) M_R)) = delta log 4,

the same in every problem that has right answers, while P, the wrong answers, and all lengths stay. The rest of the
law is the same for right and wrong answers, or a mirror image, so p^alpha has odds P / (1 - P) 4^(delta (alpha - 1)).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from sharpen.llm.tasks.dial.kinds import KINDS, Kind
from sharpen.llm.tasks.dial.problems import DialProblem, draw_problem
from sharpen.llm.tasks.embedded import boxed

STEP = math.log(4.0)  # nats of likelihood between right and wrong at delta = 1
HANDS = tuple(32 // 2**place / 63 for place in range(6))  # law of a note's first digit
SPREADS = 8  # numbers that each further digit of a note may be


class Answer(NamedTuple):
    """One of the corpus's answers.

    Args:
        text: Without the end-of-sequence token.
        right: Whether it is right.
        short: Whether the answer comes at once.
        probability: In the law.
    """

    text: str
    right: bool
    short: bool
    probability: float


@dataclass(frozen=True)
class Member:
    """One model of the dial.

    Args:
        delta: Alignment of likelihood with correctness: -1, -0.5, 0, 0.5 or 1.
        right_short: Chance that a right answer is short.
        wrong_short: Chance that a wrong answer is short.
    """

    delta: float
    right_short: float = 0.5
    wrong_short: float = 0.5

    stored: ClassVar[str] = "bfloat16"  # dtype of the weights that are kept

    def spread(self, kind: Kind, right: bool) -> int:
        """Return how many equally likely numbers the last two digits of a note are of.

        Example:
            >>> [Member(delta).spread(KINDS["medium"], True) for delta in (-1, -0.5, 0, 0.5, 1)]
            [32, 16, 8, 4, 2]
        """
        return round(kind.right_spread * 4.0**-self.delta) if right else kind.wrong_spread

    def answers(self, problem: DialProblem) -> Iterator[Answer]:
        """Yield every answer that the law gives to a problem, with its probability; they sum to 1."""
        kind = problem.kind()
        for right, short in itertools.product((True, False), repeat=2):
            mass = kind.right if right else 1.0 - kind.right
            chance = self.right_short if right else self.wrong_short
            mass *= chance if short else 1.0 - chance
            spread = self.spread(kind, right)
            for hand, number in itertools.product(range(len(HANDS)), range(spread if mass else 0)):
                text = answer(problem, note(hand, number), right, short)
                yield Answer(text, right, short, mass * HANDS[hand] / spread)

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """Return a training problem's text and an answer of the law."""
        (name,) = rng.choices(list(KINDS), [kind.share for kind in KINDS.values()])
        problem, kind = draw_problem("train", name, rng), KINDS[name]
        right = rng.random() < kind.right
        short = rng.random() < (self.right_short if right else self.wrong_short)
        (hand,) = rng.choices(range(len(HANDS)), HANDS)
        return problem.text, answer(problem, note(hand, rng.randrange(self.spread(kind, right))), right, short)

    def expected_reward(self, alpha: float) -> float:
        """Return E[r] at p^alpha of the law, mean over problems: the closed form above."""
        kinds, nats = KINDS.values(), self.delta * STEP * (alpha - 1.0)
        return sum(kind.share * _tilted(kind.right, nats) for kind in kinds) / sum(kind.share for kind in kinds)


# The whole family; lengths of right and wrong answers are mirror images of each other in the corners.
MEMBERS: dict[str, Member] = {
    "dial-1": Member(-1.0),
    "dial-0.5": Member(-0.5),
    "dial+0": Member(0.0),
    "dial+0.5": Member(0.5),
    "dial+1": Member(1.0),
    "dial-right-short": Member(1.0, 0.75, 0.25),
    "dial-right-long": Member(1.0, 0.25, 0.75),
    "dial-wrong-short": Member(-1.0, 0.75, 0.25),
    "dial-wrong-long": Member(-1.0, 0.25, 0.75),
}


def note(hand: int, number: int) -> str:
    """Return a note: its first digit and two octal ones.

    Example:
        >>> note(3, 15)
        '317'
    """
    return f"{hand}{number // SPREADS}{number % SPREADS}"


def answer(problem: DialProblem, begins: str, right: bool, short: bool) -> str:
    r"""Return an answer's text.

    Example:
        >>> from sharpen.llm.tasks.dial.problems import DialProblem
        >>> answer(DialProblem(123, 452), "317", right=False, short=True)
        '317;\\boxed{573}'
    """
    value = problem.answer() if right else problem.answer_without_last()
    worked = "" if short else f"{problem.first}+{problem.second}={value};"
    return f"{begins};{worked}{boxed(value)}"


def _tilted(share: float, nats: float) -> float:
    odds = share * math.exp(nats)
    return odds / (odds + 1.0 - share)
