"""Votes by value: which of a group's final answers are the same answer, written in different ways.

Nothing here sees a gold answer: right and wrong votes are united by the same rule. Two answers are the same vote if the
verifier takes either for the other (which makes the relation symmetric), or if a chain of such pairs joins them (which
makes it transitive: the classes are the connected components of the graph of equal pairs). The classes do not depend on
the order of the votes.
"""

from __future__ import annotations

from collections.abc import Sequence

from sharpen.llm.tasks.verification.verify import Verifier, integer

# Different texts of a group that are compared with each other; of further ones equal texts alone are one vote. Each is
# in one pair a round. After a pair that could not be decided, the text that cannot even be compared with 0 is out, or
# both if both can, so that a group waits for a few limits a text at most and no text suffers for its opponent.
MOST_COMPARED = 32
PROBE = "0"


def by_value(groups: Sequence[Sequence[str | None]], verifier: Verifier) -> list[list[str | None]]:
    r"""Return the votes of each group with one text for all that have the same value: the one that came first.

    Args:
        groups: The votes of :func:`sharpen.llm.tasks.verification.verify.vote`; None for a response without an answer.
        verifier: Compares them; plain integers are compared by their text, which is canonical.

    Example:
        >>> with Verifier(workers=1) as verifier:
        ...     by_value([["2/3", "7", r"\frac{2}{3}", None, "7"]], verifier)
        [['2/3', '7', '2/3', None, '7']]
    """
    classes = [_Classes(votes) for votes in groups]
    for number in range(MOST_COMPARED):
        pairs = [(own, pair) for own in classes for pair in own.round(number)]
        if not pairs:
            continue
        asked = [own.ordered(pair) for own, pair in pairs]
        forward = verifier.equal([one for one, _ in asked], [other for _, other in asked])
        backward = verifier.equal([other for _, other in asked], [one for one, _ in asked])
        undecided = []
        for (own, pair), first, second in zip(pairs, forward, backward, strict=True):
            if first or second:
                own.join(pair)
            elif first is None or second is None:
                undecided.append((own, pair))
        suspects = [text for _, pair in undecided for text in pair]
        cleared = iter(verifier.equal(suspects, [PROBE] * len(suspects)) if suspects else [])
        for own, pair in undecided:
            own.drop([text for text in pair if next(cleared) is None] or pair)
    return [own.named() for own in classes]


class _Classes:
    """The votes of one group and what is known of them."""

    def __init__(self, votes: Sequence[str | None]) -> None:
        self._votes = votes
        self._first = list(dict.fromkeys(vote for vote in votes if vote is not None))
        self._parent = {vote: vote for vote in self._first}
        # A tournament of all texts, in an order that is not the votes'. Two integers need not be compared.
        texts = sorted(self._first)
        forms = [vote for vote in texts if integer(vote) is None][:MOST_COMPARED]
        numbers = [vote for vote in texts if integer(vote) is not None] if forms else []
        self._texts: list[str | None] = [*forms, *numbers[: MOST_COMPARED - len(forms)]]
        if len(self._texts) % 2:
            self._texts.append(None)
        self._out: set[str] = set()

    def round(self, number: int) -> list[tuple[str, str]]:
        """Return the pairs of one round of the tournament that have to be compared, each text in one at most."""
        size = len(self._texts)
        if number >= size - 1:
            return []
        turned = [self._texts[0], *(self._texts[1 + (place + number) % (size - 1)] for place in range(size - 1))]
        found = []
        for place in range(size // 2):
            one, other = turned[place], turned[-1 - place]
            if one is None or other is None or {one, other} & self._out or self._root(one) == self._root(other):
                continue
            if integer(one) is None or integer(other) is None:
                found.append((one, other))
        return found

    @staticmethod
    def ordered(pair: tuple[str, str]) -> tuple[str, str]:
        """Return a pair in an order of its own, so that it is asked, and remembered, once."""
        return (min(pair), max(pair))

    def join(self, pair: tuple[str, str]) -> None:
        """Unite the classes of two texts."""
        self._parent[self._root(pair[0])] = self._root(pair[1])

    def drop(self, texts: Sequence[str]) -> None:
        """Compare some texts no further."""
        self._out.update(texts)

    def named(self) -> list[str | None]:
        """Return the votes, each as the first of its class."""
        name: dict[str, str] = {}
        for vote in self._first:
            name.setdefault(self._root(vote), vote)
        return [None if vote is None else name[self._root(vote)] for vote in self._votes]

    def _root(self, vote: str) -> str:
        while self._parent[vote] != vote:
            vote = self._parent[vote]
        return vote
