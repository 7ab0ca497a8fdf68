"""The problems of each part of a task: other seeds for each part, and no question in two of them.

They are made in a process of its own, ``python -m sharpen.llm.tasks.gym.problems``: some generators follow the order of
sets, which hangs on the process, some seed the random numbers of the whole process, some print, and one runs the
programs that its questions are about. A process that asks for questions alone is not sent the answers.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

from sharpen.llm.common.parts import part_of
from sharpen.llm.tasks.gym.names import PREFIX, Chosen, chosen, without_plots
from sharpen.objective import InputError

CHUNK = 1000  # problems of one seed: some generators make all of a seed's at once
SEEDS = {"train": 100_000_000, "validation": 200_000_000, "test": 300_000_000}
SHOWN, SHOWN_SEED = 4, 400_000_000  # worked examples of a prompt
DEFAULT = {"train": 1000, "validation": 100, "test": 200}  # problems where nobody says how many
MOST = 100_000
STALE = 2000  # problems one after the other that are none of the part, or known: the generator has no others


class Item(NamedTuple):
    """A problem with all that scoring it needs.

    Args:
        generator: Its name.
        settings: Of the data set that made it, with ``seed`` and ``size``.
        entry: As the data set made it: ``question``, ``answer``, ``metadata``.
    """

    generator: str
    settings: dict[str, Any]
    entry: dict[str, Any]


@lru_cache(maxsize=16)
def questions(name: str, part: str, limit: int | None) -> tuple[str, ...]:
    """Return the questions of a part, the same at each call and on every machine.

    Args:
        name: The task's, without the prefix.
        part: ``train``, ``validation`` or ``test``.
        limit: How many; None for the part's default. There are fewer where the generators have no more.

    Raises:
        InputError: there is no such part, the limit is out of range, or the part has no problem.
    """
    return tuple(_made(name, part, limit, "questions"))


def items(name: str, part: str, limit: int | None) -> list[Item]:
    """Return the problems of a part with their answers, in the order of :func:`questions`.

    Raises:
        InputError: as there.
    """
    return [Item(*row) for row in _made(name, part, limit, "items")]


@lru_cache(maxsize=16)
def examples(name: str) -> tuple[tuple[str, str], ...]:
    """Return a few questions with their answers, which are problems of no part.

    Args:
        name: Of a task of one generator, without the prefix.

    Raises:
        InputError: the task is a category, or its problems have no one answer.
    """
    found = _asked(name, "train", SHOWN, "examples") if len(chosen(name).generators) == 1 else []
    if len(found) < SHOWN or not all(isinstance(answer, str) and answer for _, answer in found):
        raise InputError("template", f"{PREFIX}{name}", "a task of one generator whose problems have one answer each")
    return tuple(found)


def _made(name: str, part: str, limit: int | None, what: str) -> list[Any]:
    if part not in SEEDS:
        raise InputError("split", part, ", ".join(SEEDS))
    if limit is not None and limit > MOST:
        raise InputError("problems", limit, f"at most {MOST} of a task of reasoning-gym")
    found = _asked(name, part, limit or DEFAULT[part], what)
    if not found:
        raise InputError("task", f"{PREFIX}{name}", f"a generator with a problem for the part {part!r}")
    return found


def _asked(name: str, part: str, wanted: int, what: str) -> list[Any]:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", __name__, name, part, str(wanted), what],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    if ended.returncode:
        reason = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise InputError("task", f"{PREFIX}{name}", f"a generator that makes its problems ({reason})")
    return pickle.loads(ended.stdout)


def make(generators: Chosen, part: str, wanted: int) -> list[Item]:
    """Return so many problems of a part, or all there are: of each generator one, in turn.

    A question belongs to the part that its hash says, so that none is in two parts however many are asked for.

    Args:
        generators: The task's.
        part: ``train``, ``validation`` or ``test``.
        wanted: How many.
    """
    seen = {entry["question"] for entry in _shown(generators)}
    found = list[Item]()
    streams = [_stream(name, generators.options, part, seen) for name in generators.generators]
    while streams and len(found) < wanted:
        for stream in list(streams):
            item = next(stream, None)
            if item is None:
                streams.remove(stream)
            elif len(found) < wanted:
                found.append(item)
    return found


def _shown(generators: Chosen) -> list[dict[str, Any]]:
    """Return what a prompt shows of a task of one generator; nothing of a category."""
    from reasoning_gym.factory import create_dataset

    if len(generators.generators) != 1:
        return []
    dataset = create_dataset(generators.generators[0], **generators.options, seed=SHOWN_SEED, size=CHUNK)
    entries = (dataset[place] for place in range(CHUNK))
    different: dict[str, dict[str, Any]] = {}
    while len(different) < SHOWN and (entry := next(entries, None)) is not None:
        different.setdefault(entry["question"], entry)
    return list(different.values())


def _stream(name: str, options: dict[str, Any], part: str, seen: set[str]) -> Iterator[Item]:
    from reasoning_gym.factory import create_dataset

    stale = 0
    for chunk in count():
        settings = {**options, "seed": SEEDS[part] + chunk * CHUNK, "size": CHUNK}
        dataset = create_dataset(name, **settings)
        for place in range(CHUNK):
            entry = dataset[place]
            question = entry["question"]
            if question in seen or part_of("reasoning-gym", question) != part:
                stale += 1
                if stale == STALE:
                    return
                continue
            stale = 0
            seen.add(question)
            yield Item(name, settings, entry)


def main(arguments: list[str]) -> None:
    """Write what :func:`questions`, :func:`items` or :func:`examples` asks for; nothing else reaches the output."""
    name, part, wanted, what = arguments
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what generators print
    without_plots()
    rows: list[Any]
    if what == "examples":
        rows = [(entry["question"], entry["answer"]) for entry in _shown(chosen(name))]
    else:
        made = make(chosen(name), part, int(wanted))
        rows = [item.entry["question"] for item in made] if what == "questions" else [tuple(item) for item in made]
    with os.fdopen(out, "wb") as stream:
        pickle.dump(rows, stream)


if __name__ == "__main__":
    main(sys.argv[1:])
