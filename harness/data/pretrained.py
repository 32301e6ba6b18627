"""Pretrained models of `transformers`: loaded from a folder, the hub's cache or the hub, and who they are."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from transformers.utils import logging

CONFIG = "config.json"
PATIENCE = 5.0  # seconds for the hub to answer, which is asked once


def loaded(kind: Any, name: str) -> Any:
    """`kind.from_pretrained(name)`; from the hub's cache alone where the hub does not answer.

    Raises OSError, ValueError or ImportError; where the hub does not answer and nothing is cached, in seconds.
    """
    logging.disable_progress_bar()  # of reading a file that lies on the disk
    if Path(name).is_dir():
        return kind.from_pretrained(name)
    cached = _cached(name) is not None
    trouble = _trouble(name)
    if trouble and not cached:
        raise OSError(
            f"it is no folder, is not in the hub's cache, and {constants.ENDPOINT} does not give it: {trouble}"
        )
    return kind.from_pretrained(name, local_files_only=bool(trouble))


def revision(name: str) -> str:
    """Which revision of a hub's model was loaded: the commit of the cached files; "" where there are none."""
    config = _cached(name)
    return config.parent.name if config else ""


def _cached(name: str) -> Path | None:
    found = try_to_load_from_cache(name, CONFIG)
    return Path(found) if isinstance(found, str) else None


@lru_cache
def _trouble(name: str) -> str:
    """Why the hub does not give a model, after asking once; "" where it does."""
    try:
        get_hf_file_metadata(hf_hub_url(name, CONFIG), timeout=PATIENCE)
    except Exception as error:  # of whichever HTTP library the hub's client uses
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return ""
