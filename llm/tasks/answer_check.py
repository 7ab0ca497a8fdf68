"""Which problems have no answer that a response could equal: found out by another process, which tells nothing else.

An evaluation that cannot be marked should fail before the training and not after it. But a run without a reward term
does not open answers before its last update, so its own process does not look: it starts this module, which reads the
data sets and writes the ids of problems without an answer. No answer leaves it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from sharpen.llm.tasks.listed import PREFIX
from sharpen.llm.tasks.sources import load_source
from sharpen.objective import InputError


class Asked(NamedTuple):
    """Problems whose answers are needed.

    Args:
        spec: Data set.
        split: Its part.
        limit: Only its first so many problems; None for all.
        ids: Of these, the ones that are needed; None for all.
    """

    spec: str
    split: str
    limit: int | None = None
    ids: tuple[str, ...] | None = None


COMPUTED = "embedded"  # the data set whose problems never change: they are looked at once a process
_known: dict[Asked, list[str] | InputError] = {}


def unanswered(asked: Sequence[Asked]) -> list[list[str] | InputError]:
    """Return, for each part of a data set, the ids of its problems that no response can be right for.

    Those are problems whose answer is empty or longer than the verifier reads. A part that has no answers at all, or
    that cannot be read, gives the :class:`InputError` that opening it gives. A list of problems that was given to this
    process is known to no other, and its answers are here already: it is looked at here.

    Raises:
        RuntimeError: the other process failed.
    """
    others = [one for one in asked if not one.spec.startswith(PREFIX) and one not in _known]
    elsewhere = dict(zip(others, _by_another_process(others) if others else [], strict=True))
    _known.update((one, found) for one, found in elsewhere.items() if one.spec == COMPUTED)
    elsewhere |= _known
    return [_unanswered(one) if one.spec.startswith(PREFIX) else elsewhere[one] for one in asked]


def _by_another_process(asked: Sequence[Asked]) -> list[list[str] | InputError]:
    done = subprocess.run(
        [sys.executable, "-m", "sharpen.llm.tasks.answer_check"],
        input=json.dumps([one._asdict() for one in asked]),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # where a user's task is
    )
    if done.returncode < 0 or done.returncode == 130:  # Ctrl-C reaches both
        raise KeyboardInterrupt
    if done.returncode:
        raise RuntimeError(f"the check of the answers failed: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return [InputError(*one["error"]) if "error" in one else one["ids"] for one in found]


def _unanswered(asked: Asked) -> list[str]:
    from sharpen.llm.tasks.verification.verify import Verifier

    answers = load_source(asked.spec, asked.split, asked.limit).answers()
    ids = [name for name in answers if asked.ids is None or name in asked.ids]
    rows = [(name, one) for name in ids for one in answers.every(name)]
    comparison = answers.form.comparison
    if answers.score is not None or answers.mark is not None:
        # What it takes for an answer is its own affair, but there has to be one.
        fine = {name for name, one in rows if one.strip()}
    elif comparison is not None:  # an answer equals itself, or nothing does
        fine = {name for name, one in rows if one.strip() and comparison(one, one) >= answers.threshold}
    else:
        with Verifier(workers=1) as verifier:
            right = verifier([f"\\boxed{{{one}}}" for _, one in rows], [one for _, one in rows])
        fine = {name for (name, _), reward in zip(rows, right, strict=True) if reward == 1.0}
    return [name for name in ids if name not in fine]


def main() -> None:
    """Read a JSON list of :class:`Asked` from stdin and write one line of JSON, an entry each, to stdout."""
    found: list[dict[str, object]] = []
    for fields in json.loads(sys.stdin.read()):
        ids = fields.pop("ids")
        try:
            found.append({"ids": _unanswered(Asked(**fields, ids=None if ids is None else tuple(ids)))})
        except InputError as error:
            found.append({"error": [error.field, error.value, error.allowed]})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
