"""Where problems come from: the embedded generator, local files, the hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sharpen.llm.data import AnswerKey, DataSource, Prompt, PromptSet
from sharpen.llm.verify import final_answer
from sharpen.objective import InputError

TEXT_COLUMNS = ("problem", "question", "prompt", "input")
ANSWER_COLUMNS = ("answer", "final_answer", "solution", "target")
ID_COLUMNS = ("id", "unique_id")
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
# Hub ids as the authors used them (GSM8K: its own); configuration and split names where they are not the usual ones.
HUB: dict[str, tuple[str, str | None]] = {
    "math": ("DigitalLearningGmbH/MATH-lighteval", None),
    "math500": ("HuggingFaceH4/MATH-500", None),
    "minerva": ("math-ai/minervamath", None),
    "deepscaler": ("agentica-org/DeepScaleR-Preview-Dataset", None),
    "aime24": ("HuggingFaceH4/aime_2024", None),
    "gsm8k": ("openai/gsm8k", "main"),
}
# MATH has no validation part; like the authors', its best checkpoint is chosen on the test part.
OTHER_NAMES = {"validation": ("validation", "valid", "dev", "test"), "test": ("test", "validation")}
_EXPRESSION = re.compile(r"####\s*(.+?)\s*$")

Row = dict[str, Any]


class EmbeddedSource:
    """The arithmetic problems of the embedded model, generated.

    Args:
        split: ``train``, ``validation`` or ``test``, disjoint by construction.
        limit: How many problems; None for the split's default.
    """

    def __init__(self, split: str, limit: int | None) -> None:
        from sharpen.llm.tiny import corpus

        if split not in corpus.SPLITS:
            raise InputError("split", split, ", ".join(corpus.SPLITS))
        self._name = f"embedded/{split}"
        self._problems = corpus.problems(split, limit or corpus.SPLITS[split].default_count)

    def prompts(self) -> PromptSet:
        """Return the problems; no sum has been computed."""
        return PromptSet(self._name, tuple(Prompt(problem.text, problem.text) for problem in self._problems))

    def answers(self) -> AnswerKey:
        """Return the sums."""
        return AnswerKey({problem.text: str(problem.answer()) for problem in self._problems})


class TableSource:
    """Rows of a file or of the hub.

    Args:
        name: What messages call the data set.
        read: Returns the rows, anew at each call.
        limit: Use only the first so many rows.
    """

    def __init__(self, name: str, read: Callable[[], list[Row]], limit: int | None) -> None:
        self._name, self._read, self._limit = name, read, limit

    def prompts(self) -> PromptSet:
        """Return the problems; the answer columns are dropped with the rows."""
        return PromptSet(self._name, tuple(Prompt(name, text) for name, text, _ in self._rows()))

    def answers(self) -> AnswerKey:
        """Return the gold answers: the last boxed expression or ``####`` line where the column is a whole solution.

        A row whose answer is empty (two of MATH's are) keeps the empty answer, which no response equals.

        Raises:
            InputError: no row has an answer.
        """
        answers = {}
        for name, _, row in self._rows():
            column = next((column for column in ANSWER_COLUMNS if _filled(row.get(column))), None)
            answers[name] = "" if column is None else _gold(str(row[column]))
        if not any(answers.values()):
            raise InputError("data", self._name, f"a data set with answers ({', '.join(ANSWER_COLUMNS)})")
        return AnswerKey(answers)

    def _rows(self) -> list[tuple[str, str, Row]]:
        rows, seen = [], set()
        for number, row in enumerate(self._read()[: self._limit], start=1):
            column = next((column for column in TEXT_COLUMNS if _filled(row.get(column))), None)
            if column is None:
                raise InputError("data", self._name, f"a text ({', '.join(TEXT_COLUMNS)}) in row {number}")
            text = str(row[column])
            given = next((str(row[key]) for key in ID_COLUMNS if _filled(row.get(key))), None)
            name = given or hashlib.sha256(text.encode()).hexdigest()[:16]
            name = name if name not in seen else f"{name}#{number}"  # the same problem twice is two rows
            seen.add(name)
            rows.append((name, text, row))
        return rows


def open_source(spec: str, split: str, limit: int | None) -> DataSource:
    """Return the source that ``spec`` names; see :func:`sharpen.llm.data.load_source`."""
    if spec == "embedded":
        return EmbeddedSource(split, limit)
    path = Path(spec)
    if path.exists():
        file = _split_file(path, split) if path.is_dir() else path
        if file.suffix not in SUFFIXES:
            raise InputError("data", spec, f"a file ending in {', '.join(SUFFIXES)}, or a folder of such files")
        return TableSource(str(file), lambda: read_file(file), limit)
    if spec in HUB:
        return TableSource(spec, lambda: _read_hub(*HUB[spec], split), limit)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", spec):
        return TableSource(spec, lambda: _read_hub(spec, None, split), limit)
    raise InputError("data", spec, f"embedded, {', '.join(HUB)}, a hub id (org/name), an existing file or folder")


def read_file(file: Path) -> list[Row]:
    """Return the rows of a .jsonl, .json, .csv or .parquet file.

    Raises:
        InputError: the file cannot be read, or a row is not an object; the message has the line.
    """
    try:
        if file.suffix == ".jsonl":
            return [_object(line, file, number) for number, line in enumerate(_lines(file), start=1) if line.strip()]
        if file.suffix == ".json":
            content = json.loads(file.read_text(encoding="utf-8"))
            if not (isinstance(content, list) and all(isinstance(row, dict) for row in content)):
                raise InputError("data", str(file), "a JSON list of objects")
            return content
        import pandas

        table = pandas.read_csv(file, dtype=str) if file.suffix == ".csv" else pandas.read_parquet(file)
        return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    except InputError:
        raise
    except (OSError, ValueError) as error:  # undecodable text, bad JSON, an empty or broken table
        raise InputError("data", str(file), f"a readable {file.suffix} file ({error})") from error


def _lines(file: Path) -> list[str]:
    # Not splitlines(): a JSON string may hold U+2028 and its like, which are no line ends in JSON lines.
    return file.read_text(encoding="utf-8").split("\n")


def _object(line: str, file: Path, number: int) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError("data", f"{file}:{number}", f"one JSON object a line ({error})") from error
    if not isinstance(row, dict):
        raise InputError("data", f"{file}:{number}", "one JSON object a line")
    return row


def _split_file(folder: Path, split: str) -> Path:
    """Return the file of ``split`` in a folder, or the only data file in it."""
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    for name in OTHER_NAMES.get(split, (split,)):
        for file in files:
            if file.stem == name:
                return file
    if len(files) == 1:
        return files[0]
    found = ", ".join(file.name for file in files) or "none"
    raise InputError("data", str(folder), f"a folder with a file for the split {split!r} (found: {found})")


def _read_hub(name: str, configuration: str | None, split: str) -> list[Row]:
    import datasets

    try:
        available = datasets.get_dataset_split_names(name, configuration)
        wanted = next((other for other in OTHER_NAMES.get(split, (split,)) if other in available), None)
        wanted = wanted or (available[0] if len(available) == 1 else None)
        if wanted is None:
            raise InputError("split", split, ", ".join(available))
        return [dict(row) for row in datasets.load_dataset(name, configuration, split=wanted)]  # type: ignore[union-attr]
    except InputError:
        raise
    except Exception as error:  # the library raises its own, requests' and OS errors for one thing: not to be had
        raise InputError(
            "data",
            name,
            f"a data set that the hub gives ({type(error).__name__}); without network pass a file, --data FILE",
        ) from error


def _filled(value: Any) -> bool:
    return value is not None and value == value and str(value).strip() != ""  # NaN, pandas' gap, is unequal to itself


def _gold(text: str) -> str:
    """Return the final answer of a gold column that may hold a whole solution."""
    boxed = final_answer(text)
    if boxed is not None:
        return boxed
    marked = _EXPRESSION.search(text)
    return marked[1] if marked else text.strip()
