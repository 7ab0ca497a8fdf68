"""Is the model and data hub within reach?"""

from __future__ import annotations

from functools import lru_cache

PROBE_SECONDS = 5.0


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
