"""Settings that commands share: ``NAME=VALUE``, a whole task, arguments of the chat format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

CHAT_OPTION = "Argument of the model's chat format, as enable_thinking=false; repeatable."
LONG_PROMPTS = "Prompts that leave no room for a response: drop (the default) or refuse."
TEMPLATE = "Prompt template: a name, a file, or module:object; default: the task's, else the model's."
_EXAMPLES = {"set": "optimizer.beta2=0.95", "chat_option": "enable_thinking=false"}


def assigned(assignment: str, flag: str = "set") -> dict[str, Any]:
    """Return ``a.b=value`` as nested settings; the value is read as YAML.

    Args:
        assignment: What was given.
        flag: To which flag; errors name it.

    Raises:
        InputError: it has another form.

    Example:
        >>> assigned("optimizer.beta2=0.95")
        {'optimizer': {'beta2': 0.95}}
    """
    from sharpen.objective import InputError
    from sharpen.objective.storage.parsing import parse_yaml

    name, _, text = assignment.partition("=")
    if not text.strip() or not all(part.isidentifier() for part in name.strip().split(".")):
        raise InputError(flag, assignment, f"NAME=VALUE, for example {_EXAMPLES.get(flag, 'n=4')}")
    try:
        value = parse_yaml(text, flag)
    except InputError as error:
        raise InputError(flag, assignment, error.allowed) from error
    changes: dict[str, Any] = {}
    put(changes, name.strip(), value)
    return changes


def put(changes: dict[str, Any], place: str, value: Any) -> None:
    """Set a nested setting at a dotted place."""
    *groups, leaf = place.split(".")
    for group in groups:
        changes = changes.setdefault(group, {})
    changes[leaf] = value


def chat_options(given: Iterable[str]) -> dict[str, Any]:
    """Return ``--chat-option NAME=VALUE``, given several times, as one mapping.

    Raises:
        InputError: one has another form.
    """
    from sharpen.llm.configs.train import merge

    found: dict[str, Any] = {}
    for one in given:
        found = merge(found, assigned(one, "chat_option"), whole=())
    return found
