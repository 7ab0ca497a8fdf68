"""Where problems come from: the embedded generator, local files, the hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sharpen.llm.tasks.answers.comparisons import COMPARISONS
from sharpen.llm.tasks.answers.finders import FINDERS
from sharpen.llm.tasks.data import AnswerKey, DataSource, Prompt, PromptSet, answer_of, form_of
from sharpen.llm.tasks.listed import PREFIX, PairSource, held
from sharpen.llm.tasks.readers import SUFFIXES, Row, read_file, read_hub
from sharpen.llm.tasks.registry import TASKS, WORD_TASKS, Judgement, Task, judgement_of
from sharpen.llm.tasks.seal import refuse_if_sealed
from sharpen.llm.tasks.templates import name_of
from sharpen.llm.tasks.verification.verify import final_answer
from sharpen.objective import InputError

TEXT_COLUMNS = ("problem", "question", "prompt", "input")
ANSWER_COLUMNS = ("answer", "final_answer", "solution", "target")
ID_COLUMNS = ("id", "unique_id")
CATEGORY_COLUMNS = {"subject": ("subject", "type", "category"), "level": ("level", "difficulty")}
MOST_EMBEDDED = 20_000  # the smaller splits have some 36,000 different problems, drawn until there are enough
_HUB_ID = r"[\w-][\w.-]*/[\w-][\w.-]*"
_MARKED = re.compile(r"####\s*(.+?)\s*$")


class HubSet(NamedTuple):
    """A data set of the hub.

    Args:
        location: Hub id.
        splits: The hub's name for each of our splits.
        configuration: The hub's name for the configuration, where there are several.
    """

    location: str
    splits: dict[str, str]
    configuration: str | None = None


# Hub ids as the authors used them (GSM8K and AIME 2025: sets they did not use). Where a set has no validation part its
# test part stands in, as with the authors; AIME 2024's and DeepScaleR's only parts are called train on the hub.
_WITHOUT_VALIDATION = {"train": "train", "validation": "test", "test": "test"}
_TEST_ONLY = {"validation": "test", "test": "test"}
HUB: dict[str, HubSet] = {
    "math": HubSet("DigitalLearningGmbH/MATH-lighteval", _WITHOUT_VALIDATION),
    "math500": HubSet("HuggingFaceH4/MATH-500", _TEST_ONLY),
    "minerva": HubSet("math-ai/minervamath", _TEST_ONLY),
    "deepscaler": HubSet("agentica-org/DeepScaleR-Preview-Dataset", {"train": "train"}),
    "aime24": HubSet("HuggingFaceH4/aime_2024", {"train": "train", "validation": "train", "test": "train"}),
    "aime25": HubSet("math-ai/aime25", _TEST_ONLY),
    "gsm8k": HubSet("openai/gsm8k", _WITHOUT_VALIDATION, "main"),
}
# What a split may be called elsewhere, best first.
OTHER_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "test"),
    "test": ("test", "validation"),
}


class EmbeddedSource:
    """The arithmetic problems of the embedded model, generated.

    Args:
        split: ``train``, ``validation`` or ``test``, disjoint by construction.
        limit: How many problems; None for the split's default.
    """

    def __init__(self, split: str, limit: int | None) -> None:
        from sharpen.llm.tasks import embedded as corpus

        if split not in corpus.SPLITS:
            raise InputError("split", split, ", ".join(corpus.SPLITS))
        if limit is not None and limit > MOST_EMBEDDED:
            raise InputError("problems", limit, f"at most {MOST_EMBEDDED} of the embedded model's problems")
        self._name = f"embedded/{split}"
        self._problems = corpus.problems(split, limit or corpus.SPLITS[split].default_count)

    def prompts(self) -> PromptSet:
        """Return the problems; no sum has been computed."""
        return PromptSet(self._name, tuple(Prompt(problem.text, problem.text) for problem in self._problems))

    def answers(self) -> AnswerKey:
        """Return the sums."""
        refuse_if_sealed(self._name)
        return AnswerKey({problem.text: str(problem.answer()) for problem in self._problems})

    def categories(self) -> Mapping[str, Mapping[str, str]]:
        """Return nothing: all problems are of one kind."""
        return {}


class TableSource:
    """Rows of a file or of the hub.

    Args:
        name: What messages call the data set.
        read: Returns the rows with the columns that it is given, anew at each call.
        limit: Use only the first so many rows.
    """

    def __init__(self, name: str, read: Callable[[tuple[str, ...]], list[Row]], limit: int | None) -> None:
        self._name, self._read, self._limit = name, read, limit

    def prompts(self) -> PromptSet:
        """Return the problems; the reader drops the answer columns of each row before it parses the next."""
        return PromptSet(self._name, tuple(Prompt(name, text) for name, text, _ in self._rows(())))

    def answers(self) -> AnswerKey:
        """Return the gold answers: the last boxed expression or ``####`` line where the column is a whole solution.

        A list holds answers that are all right. A row whose answer is empty (two of MATH's are) keeps the empty answer,
        which no response equals.

        Raises:
            InputError: no row has an answer, or one is neither a text nor a number nor a list of them.
        """
        refuse_if_sealed(self._name)
        answers: dict[str, str | tuple[str, ...]] = {}
        for name, _, row in self._rows(ANSWER_COLUMNS):
            column = next((column for column in ANSWER_COLUMNS if _filled(row.get(column))), None)
            answers[name] = "" if column is None else self._answer(name, column, row[column])
        if not any(answers.values()):
            raise InputError("data", self._name, f"a data set with answers ({', '.join(ANSWER_COLUMNS)})")
        return AnswerKey(answers)

    def _answer(self, name: str, column: str, given: Any) -> str | tuple[str, ...]:
        """Return what an answer column holds: a text, a number, or a list of right answers."""
        found = str(given) if isinstance(given, bool) else answer_of(given)
        if found is None:
            place = f"{type(given).__name__} in the column {column} of problem {name}"
            raise InputError("data", f"{self._name}: {place}", "answers that are a text, a number, or a list of them")
        return _gold(found) if isinstance(found, str) else tuple(_gold(one) for one in found)

    def categories(self) -> Mapping[str, Mapping[str, str]]:
        """Return ``subject`` and ``level`` of the rows that have them."""
        wanted = tuple(column for columns in CATEGORY_COLUMNS.values() for column in columns)
        found: dict[str, dict[str, str]] = {}
        for name, _, row in self._rows(wanted):
            found[name] = {}
            for label, columns in CATEGORY_COLUMNS.items():
                column = next((column for column in columns if _filled(row.get(column))), None)
                if column is not None:
                    found[name][label] = str(row[column]).strip()
        return found

    def _rows(self, columns: tuple[str, ...]) -> Iterator[tuple[str, str, Row]]:
        """Yield id, text and row; an id that comes again, or a repeated problem without one, gets the row's number."""
        seen: set[str] = set()
        for number, row in enumerate(self._read((*ID_COLUMNS, *TEXT_COLUMNS, *columns))[: self._limit], start=1):
            text = next((row[column] for column in TEXT_COLUMNS if _filled(row.get(column))), None)
            if not isinstance(text, str):
                raise InputError("data", self._name, f"a text column ({', '.join(TEXT_COLUMNS)}) in row {number}")
            given = next((str(row[key]) for key in ID_COLUMNS if _filled(row.get(key))), None)
            name = given or hashlib.sha256(text.encode()).hexdigest()[:16]
            while name in seen:
                name = f"{name}#{number}"
            seen.add(name)
            yield name, text, row


TASKS.register("embedded")(EmbeddedSource)
TASKS.register("dial", "sharpen.llm.tasks.dial.problems:DialSource")  # in a room above this one


def _hub_task(name: str, known: HubSet) -> Task:
    def task(split: str, limit: int | None = None) -> TableSource:
        if split not in known.splits:
            raise InputError("split", split, f"{', '.join(known.splits)}, the splits of {name}")
        names = (known.splits[split],)
        return TableSource(name, lambda columns: read_hub(known.location, known.configuration, names, columns), limit)

    task.__doc__ = f"Problems of {known.location} on the hub ({', '.join(known.splits)})."
    return task


for _name, _known in HUB.items():
    TASKS.register(_name)(_hub_task(_name, _known))
# In the room above this one, which imports this: found by their places, when they are first asked for.
for _name in WORD_TASKS:
    TASKS.register(_name, f"sharpen.llm.tasks.words.family:tasks.{_name.replace('-', '_')}")


class Judged:
    """The source of a task that says how its responses are judged: its problems and its answer key know it too.

    Args:
        source: The task's.
        judgement: What the task says.
    """

    def __init__(self, source: DataSource, judgement: Judgement) -> None:
        self._source, self._how, self.form = source, judgement, judgement.form

    def prompts(self) -> PromptSet:
        """Return the problems with the task's form of answers."""
        return replace(self._source.prompts(), form=self.form)

    def answers(self) -> AnswerKey:
        """Return the answers with the task's way to score."""
        return self._source.answers().judged(self._how.score, self.form, self._how.threshold)

    def categories(self) -> Mapping[str, Mapping[str, str]]:
        """Return the source's."""
        return self._source.categories()


class Sealable:
    """The source of a task from outside the package: its answers are sealed as the package's own are.

    Args:
        name: The task's.
        source: Its source.
    """

    def __init__(self, name: str, source: DataSource) -> None:
        self._name, self._source, self.form = name, source, form_of(source)

    def prompts(self) -> PromptSet:
        """Return the problems."""
        return self._source.prompts()

    def answers(self) -> AnswerKey:
        """Return the answers."""
        refuse_if_sealed(self._name)
        return self._source.answers()

    def categories(self) -> Mapping[str, Mapping[str, str]]:
        """Return the source's, if it has them."""
        own = getattr(self._source, "categories", None)
        return {} if own is None else own()


def load_task(spec: str) -> Task | None:
    """Return the task that ``spec`` names, or None for a file, a folder or a hub id.

    Raises:
        InputError: it names none of them.
    """
    if spec == "embedded":
        return TASKS.get(spec)
    if spec.startswith(PREFIX):
        return held(spec)
    if spec and Path(spec).exists():
        return None
    if spec in TASKS or ":" in spec:
        return TASKS.get(spec, "data")
    if re.fullmatch(_HUB_ID, spec):
        return None
    allowed = f"{', '.join(TASKS)}, gym:NAME, a hub id (org/name), an existing file or folder, or module:object"
    raise InputError("data", spec, allowed)


def template_for(named: str | None, data: str | None, otherwise: str) -> str:
    """Return the name of the template that problems are asked with: the one that is named, or their task's, or another.

    Args:
        named: By a configuration; None: it names none.
        data: Spec of the problems; a file, a hub id and one that names nothing have no template.
        otherwise: The model's.
    """
    if named is not None:
        return named
    try:
        own = getattr(load_task(data), "template", None) if data is not None else None
    except InputError:  # whoever reads the problems says so
        own = None
    return otherwise if own is None else name_of(own)


def task_origins(spec: str) -> dict[str, dict[str, str | None] | None]:
    """Return where a task, its finder and its comparison come from, see :meth:`Registry.origin`; nothing for files."""
    task = load_task(spec)
    if task is None:
        return {}
    found = {} if spec.startswith(PREFIX) else {f"task {spec}": TASKS.origin(spec)}
    how = judgement_of(task)
    if how is not None:
        for registry, name in ((FINDERS, how.form.names()["find"]), (COMPARISONS, how.form.names()["compare"])):
            found[f"{registry.kind} {name}"] = registry.origin(name)
    return found


def load_source(spec: str, split: str, limit: int | None = None) -> DataSource:
    """Return the data set that ``spec`` names; nothing is read before its prompts or answers are asked for.

    Args:
        spec: A task by its built-in name (``embedded``, ``math``, ``math500``, ``minerva``, ``deepscaler``, ``aime24``,
            ``aime25``, ``gsm8k``), as ``module:object`` or by an entry point; a file (.jsonl, .json, .csv, .parquet) or
            a folder with one file per split; a hub id ``org/name``; a list that
            :func:`sharpen.llm.tasks.listed.hold` named.
        split: ``train``, ``validation``, ``test``, or what the data set calls its splits.
        limit: Use only so many problems, the first ones.

    Raises:
        InputError: the spec names nothing, the data set has no such split, or the limit is out of range.
    """
    if limit is not None and limit < 1:
        raise InputError("problems", limit, "a whole number >= 1")
    task = load_task(spec)
    if task is not None:
        return _part(spec, task, split, limit)
    path = Path(spec)
    if path.exists():
        files = _split_files(path, split) if path.is_dir() else [path]
        if files[0].suffix not in SUFFIXES:
            raise InputError("data", spec, f"a file ending in {', '.join(SUFFIXES)}, or a folder of such files")
        name = str(files[0] if len(files) == 1 else path / split)
        return TableSource(name, lambda columns: [row for file in files for row in read_file(file, columns)], limit)
    names = OTHER_NAMES.get(split, (split,))
    return TableSource(spec, lambda columns: read_hub(spec, None, names, columns), limit)


def _part(spec: str, task: Task, split: str, limit: int | None) -> DataSource:
    """Return a part of a task, whatever the task returns."""
    found = task(split, limit)
    if not callable(getattr(found, "prompts", None)):
        del found  # pairs, which hold answers: they are asked for again when they are needed
        source: DataSource = PairSource(f"{spec}/{split}", lambda: task(split, limit)[:limit])  # type: ignore[index]
    elif isinstance(found, EmbeddedSource | TableSource | PairSource):
        source = found
    else:
        source = Sealable(f"{spec}/{split}", found)  # type: ignore[arg-type]
    how = judgement_of(task)
    return source if how is None else Judged(source, how)


def _split_files(folder: Path, split: str) -> list[Path]:
    """Return the file of ``split`` in a folder, or the only data file in it unless that is named as another split.

    Or its pieces, as ``hf download --repo-type dataset`` leaves them: ``train-00000-of-00002.parquet``, …, in the
    folder or in its ``data``.
    """
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    pieces = sorted(file for file in (folder / "data").glob("*") if file.suffix in SUFFIXES)
    for name in OTHER_NAMES.get(split, (split,)):
        for file in files:
            if file.stem == name:
                return [file]
        for place in (files, pieces):
            found = [file for file in place if re.fullmatch(re.escape(name) + r"-\d{5}-of-\d{5}", file.stem)]
            if found:
                return _all_pieces(folder, found)
    split_names = {name for names in OTHER_NAMES.values() for name in names}
    if len(files) == 1 and files[0].stem not in split_names:  # never the training part where a test part was asked for
        return files
    found = ", ".join(file.name for file in (*files, *pieces)) or "none"
    raise InputError("data", str(folder), f"a folder with a file for the split {split!r} (found: {found})")


def _all_pieces(folder: Path, found: list[Path]) -> list[Path]:
    wanted = int(found[0].stem[-5:])
    if [int(file.stem[-14:-9]) for file in found] != list(range(wanted)):
        raise InputError("data", str(folder), f"a folder with all {wanted} pieces of {found[0].stem[:-15]}")
    return found


def _filled(value: Any) -> bool:
    return value is not None and str(value).strip() != ""


def _gold(text: str) -> str:
    """Return the final answer of a gold column that may hold a whole solution."""
    boxed = final_answer(text)
    if boxed is not None:
        return boxed
    marked = _MARKED.search(text)
    return marked[1] if marked else text.strip()
