"""Pretrained models of `transformers`: loaded from a folder, the hub's cache or the hub, and who they are."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers.utils import logging

CONFIG = "config.json"
WANTED = ("*.json", "*.txt", "*.safetensors", "*.model")  # no code, and no weights that have to be unpickled
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
        raise OSError(_absent(trouble))
    return kind.from_pretrained(name, local_files_only=bool(trouble))


def fetched(name: str) -> Path:
    """The folder of a hub's model with its configuration, tokenizer and weights, downloaded where it is not cached.

    Raises OSError; where the hub does not answer and nothing is cached, in seconds.
    """
    trouble = _trouble(name)
    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED), local_files_only=bool(trouble)))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise OSError(_absent(trouble or str(error).partition("\n")[0])) from None


def _absent(trouble: str) -> str:
    return f"it is no folder, is not in the hub's cache, and {constants.ENDPOINT} does not give it: {trouble}"


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
