"""What is known and not computed: lists of words with their right answers, in the package's text files."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import networkx as nx

_FOLDER = files("sharpen.llm.tasks.words") / "lists"
Answers = tuple[str, ...]


@lru_cache(maxsize=8)
def listed(name: str) -> dict[str, Answers]:
    """Return a list: what is asked for, and its right answers, the usual one first.

    Args:
        name: Of the file, whose lines are ``word: answer / another answer``.

    Raises:
        FileNotFoundError: there is no such list.
    """
    lines = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    rows = (line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    return {word: tuple(answers.split(" / ")) for word, answers in rows}


@lru_cache(maxsize=1)
def opposites() -> dict[str, Answers]:
    """Return the opposites of each word that is asked for; the relation is read both ways."""
    given = listed("antonyms")
    asked = dict.fromkeys(word for left, rights in given.items() for word in (left, rights[0]))
    found: dict[str, dict[str, None]] = {word: dict.fromkeys(given.get(word, ())) for word in asked}
    for left, rights in given.items():
        for right in rights:
            if right in found:
                found[right][left] = None
    return {word: tuple(answers) for word, answers in found.items()}


@lru_cache(maxsize=1)
def families() -> dict[str, str]:
    """Return one word for all that are joined by opposites: who knows "hot: cold" has also seen "cold: hot"."""
    joined = nx.Graph((left, right) for left, rights in listed("antonyms").items() for right in rights)
    return {word: min(family) for family in nx.connected_components(joined) for word in family}


@lru_cache(maxsize=1)
def words() -> tuple[str, ...]:
    """Return common words of three letters or more: those of the lists, each once, in alphabetical order."""
    every = {*opposites(), *listed("past-tense"), *listed("plurals")}
    return tuple(sorted(word for word in every if word.isalpha() and len(word) >= 3))
