"""The log: what goes wrong in code of the caller's where nobody else could be told."""

from __future__ import annotations

import logging

logger = logging.getLogger("cassconc")


def log_failure(text: str, *args: object) -> None:
    """Log the exception that is being handled. Raises nothing, whatever a log handler does."""
    try:
        logger.exception(text, *args)
    except BaseException:
        pass  # the handler is the caller's code; what comes next here is not to suffer from it
