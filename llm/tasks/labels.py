"""What a result owes to labels beside its reward: the model that it began from, the examples in its prompts.

The firewall (:mod:`sharpen.llm.rewards.firewall`) keeps gold answers from a run without a reward term. Two ways round
it are no fault of the run and are told: a base model that was itself trained on labels, and a template whose examples
show problems of the data with their answers. Models that this program trains carry their history in ``config.json``,
which exports keep. What other programs did to a model is not known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm.models.store import is_converted
from sharpen.llm.tasks.data import DataSource, PromptSet
from sharpen.llm.tasks.problem_text import normalised
from sharpen.llm.tasks.templates import Template, around, examples_in, read_template
from sharpen.objective import InputError

if TYPE_CHECKING:
    from sharpen.llm.configs.train import TrainConfig

HISTORY = "sharpen_training"  # in config.json: one entry a training, oldest first
MOST_TEXTS = 64  # of a template that shows something else around each problem
_BOXED = re.compile(r"\\boxed *\{\s*[^}\s]")


def used_by(config: TrainConfig) -> bool:
    """Return whether a run's reward opens the gold answers."""
    return config.objective.needs_reward and config.reward.needs_answers


def entry(config: TrainConfig) -> dict[str, Any]:
    """Return what a model that a run trains says of it."""
    return {
        "regime": config.objective.regime,
        "objective": config.objective.to_dict(),
        "reward": config.reward.kind if config.objective.needs_reward else None,
        "labels": used_by(config),
        "model": config.model,
        "data": config.data,
        "seed": config.seed,
    }


def history(location: str) -> list[dict[str, Any]]:
    """Return the trainings that made a model, oldest first, as far as its ``config.json`` tells; none if it does not.

    Args:
        location: As a model source has it; a GGUF file and a package say nothing of trainings.
    """
    if is_converted(location):
        return []
    file = Path(location) / "config.json"
    if not Path(location).is_dir():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(location, "config.json")
        if not isinstance(cached, str):
            return []
        file = Path(cached)
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get(HISTORY)
    except (OSError, ValueError, AttributeError, RecursionError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def saw_labels(trainings: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether one of a model's trainings opened gold answers, or does not say that it did not."""
    return any(training.get("labels") is not False for training in trainings)


def base_note(name: str, trainings: Sequence[Mapping[str, Any]]) -> str | None:
    """Return one line on a base model that was trained on labels; None for any other."""
    if not saw_labels(trainings):
        return None
    regimes = ", then ".join(str(training.get("regime", "?")) for training in trainings)
    return f"the model {name} was itself trained on labels ({regimes}): a run from it is label-free from there on only"


def model_note(trainings: Sequence[Mapping[str, Any]]) -> str | None:
    """Return one line on how a model came about, as far as this program trained it; None if it did not.

    Example:
        >>> model_note([{"regime": "task-reward", "labels": True}, {"regime": "tempered", "labels": False}])
        'the model was trained by task-reward (with labels), then tempered (without labels)'
    """
    if not trainings:
        return None
    told = [f"{one.get('regime', '?')} ({'with' if saw_labels([one]) else 'without'} labels)" for one in trainings]
    return f"the model was trained by {', then '.join(told)}"


def origin(model: str, template: str, prompts: PromptSet, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return what a result of a model, asked with a template, may owe to labels, and tell how it came about.

    Returns:
        ``model_history``, ``template_boxed`` and ``template_examples``.
    """
    trainings = history(model)
    note = model_note(trainings)
    if note is not None:
        tell(note)
    return {"model_history": trainings, **worked_answers(template, prompts)}


def shown_problems(template: str, prompts: PromptSet) -> list[str]:
    """Return the ids of the problems whose text a template shows around any of them; no answer is read.

    A problem of a single word counts where it is the whole problem of an example of a :class:`Template`.
    """
    words = f" {normalised(_shown(template, prompts))} "
    examples = _examples(template)
    plain = ((prompt.id, normalised(prompt.text)) for prompt in prompts.prompts)
    return [name for name, text in plain if text in examples or (" " in text and f" {text} " in words)]


def worked_answers(template: str, prompts: PromptSet) -> dict[str, int]:
    r"""Return how many worked answers a template shows, wherever they are from.

    Returns:
        ``template_boxed``, filled ``\boxed{…}`` in what is shown around a problem, and ``template_examples``, responses
        that are shown as the model's: the most around any problem.
    """
    texts = [prompt.text for prompt in prompts.prompts]
    return {
        "template_boxed": max(len(_BOXED.findall(text)) for text in _texts(template, prompts)),
        "template_examples": max(examples_in(template, text) for text in texts),
    }


def _texts(template: str, prompts: PromptSet) -> list[str]:
    """Return what a template shows around the problems: one text, or the first few different ones of a function."""
    found: dict[str, None] = {}
    for prompt in prompts.prompts:
        found[around(template, prompt.text)] = None
        if len(found) == MOST_TEXTS:
            break
    return list(found)


def _shown(template: str, prompts: PromptSet) -> str:
    return "\n".join(_texts(template, prompts))


def _examples(template: str) -> dict[str, str]:
    """Return the responses of a template's examples by their problems, both normalised; none of a function."""
    own = read_template(template)
    return {normalised(a): normalised(b) for a, b in own.examples} if isinstance(own, Template) else {}


def template_note(template: str, shown: Sequence[str], worked: Mapping[str, int]) -> str | None:
    """Return one line on a template with worked examples; None for any other."""
    if shown:
        return f"the template {template} shows {len(shown)} problems of the data; answers beside them are labels"
    answers = max(worked.values())
    if answers:
        return f"the template {template} shows {answers} worked answers, which are labels too"
    return None


def shown_answers(template: str, shown: Sequence[str], source: DataSource) -> int:
    """Return beside how many of the problems that a template shows it shows the gold answer too.

    Opens the answers, so it is called after the last update only. An answer counts if it stands behind its problem and
    before the next of the shown ones, or in the response of the example that asks that very problem.

    Args:
        template: Name.
        shown: Ids that :func:`shown_problems` found in ``source``; without any nothing is opened.
        source: Their data set.
    """
    if not shown:
        return 0
    try:
        answers = source.answers()
    except InputError:  # it has none: nothing to show
        return 0
    prompts, wanted = source.prompts(), set(shown)
    texts = {prompt.id: normalised(prompt.text) for prompt in prompts.prompts if prompt.id in wanted}
    words = f" {normalised(_shown(template, prompts))} "
    starts = {name: words.find(f" {text} ") for name, text in texts.items()}
    examples, found = _examples(template), 0
    for name, start in starts.items():
        behind = start + len(texts[name]) + 1
        end = min((other for other in starts.values() if other > start), default=len(words))
        near = f" {examples[texts[name]]} " if texts[name] in examples else f"{words[behind:end]} "
        found += any(gold and f" {gold} " in near for gold in map(normalised, answers.every(name)))
    return found


def record(
    config: TrainConfig, location: str, template: str, sets: Mapping[str, PromptSet], note: Callable[[str], None]
) -> dict[str, Any]:
    """Return, and say, what a run may owe to labels before its first update; no answer is read.

    Args:
        config: The run.
        location: Where its base model is.
        template: Its prompt template.
        sets: Problems that are trained or asked on, by what for.
        note: Called with a line for each way round the firewall that a run without labels takes.

    Returns:
        ``training`` (whether the reward opens answers), ``base`` (the base model's history), ``base_saw_labels``,
        ``template_shows`` (ids of problems by what they are for) and what :func:`worked_answers` counts.
    """
    trainings = history(location)
    shown = {name: shown_problems(template, prompts) for name, prompts in sets.items()}
    worked = [worked_answers(template, prompts) for prompts in sets.values()]
    most = {name: max(one[name] for one in worked) for name in worked[0]}
    every = sorted({name for names in shown.values() for name in names})
    for line in (base_note(config.model, trainings), template_note(template, every, most)):
        if line is not None and not used_by(config):
            note(line)
    return {
        "training": used_by(config),
        "base": trainings,
        "base_saw_labels": saw_labels(trainings),
        "template_shows": {name: names for name, names in shown.items() if names},
        **most,
    }
