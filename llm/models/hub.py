"""Is the model and data hub within reach, and how does a user get what is not here?"""

from __future__ import annotations

import os
from functools import lru_cache
from urllib.parse import urlsplit

PROBE_SECONDS = 5.0
_TRUE = {"1", "ON", "YES", "TRUE"}


@lru_cache(maxsize=1)
def prefer_cache() -> bool:
    """Make the hub's libraries use their local caches only if the hub does not answer, and return whether they do.

    Each of them would otherwise retry for up to a minute, with a warning a time, before it says that there is no
    network. One quick request, through the same client and so the same proxies, decides it for the process.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        constants.HF_HUB_OFFLINE = not answers(constants.ENDPOINT)
    return constants.HF_HUB_OFFLINE


def answers(address: str) -> bool:
    """Return whether an HTTP server answers at ``address`` within :data:`PROBE_SECONDS`, with whatever status."""
    from huggingface_hub import get_session

    try:
        get_session().head(address, timeout=PROBE_SECONDS)
    except Exception:  # the client's own errors, which library it is depends on the hub's version
        return False
    return True


def out_of_reach() -> str:
    """Return why the hub was not asked, once :func:`prefer_cache` has found that it was not.

    The libraries call it their offline mode, whoever chose it: the user by a variable, or this program because nobody
    answered.
    """
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(name, "").upper() in _TRUE:
            return f"{name} is set, so the hub was not asked"
    return f"{urlsplit(constants.ENDPOINT).hostname} does not answer"


def model_command(location: str) -> tuple[str, str]:
    """Return the command that gets a model where there is a network, and the folder that it makes.

    Example:
        >>> model_command("Qwen/Qwen2.5-3B-Instruct")
        ('hf download Qwen/Qwen2.5-3B-Instruct --local-dir Qwen2.5-3B-Instruct', 'Qwen2.5-3B-Instruct')
    """
    folder = location.rpartition("/")[2]
    return f"hf download {location} --local-dir {folder}", folder


def data_command(location: str, configuration: str | None = None) -> tuple[str, str]:
    """Return the command that gets a data set where there is a network, and what ``--data`` is then given.

    Example:
        >>> data_command("openai/gsm8k", "main")
        ('hf download --repo-type dataset openai/gsm8k --local-dir gsm8k', 'gsm8k/main')
    """
    folder = location.rpartition("/")[2]
    command = f"hf download --repo-type dataset {location} --local-dir {folder}"
    return command, folder if configuration is None else f"{folder}/{configuration}"
