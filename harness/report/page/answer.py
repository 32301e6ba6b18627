"""The answer that a page opens with, in words: which row for which time, what SelfAlign adds, how sure that is."""

from __future__ import annotations

from typing import Any

from harness.report.read.times import GALLERY, shown_ms
from harness.report.tables.claims import UNTUNED_HOST, host_verdict
from harness.report.tables.headline import Choice, Headline, shown_rsum

LEVEL_SHOWN = 3  # rows named as not told apart from the best one
SAID = {
    "better": "helps",
    "undecided": "undecided on",
    "equivalent": "makes no difference that matters to",
    "worse": "harms",
    UNTUNED_HOST: "cannot be judged yet, for want of trials of their own, on",
}


def answer(found: Headline) -> dict[str, Any]:
    """choices: budget, name, rsum, ms, sure; added: word -> host and difference; rising: a sentence or ""."""
    ended, trained = found.rising
    return {
        "gallery": f"{GALLERY:,}",
        "choices": [_choice(choice) for choice in found.choices],
        "added": [
            {"word": said, "hosts": hosts}
            for word, said in SAID.items()
            if (hosts := [(pair.other.name, pair.shown) for pair in found.added if host_verdict(pair) == word])
        ],
        "rising": f"{ended} of {trained} runs end at their best dev epoch: longer training may change their order."
        if ended
        else "",
    }


def _choice(choice: Choice) -> dict[str, str]:
    return {
        "budget": f"{choice.budget_ms:,.10g} ms",
        "name": choice.row.name,
        "family": choice.row.family,
        "rsum": shown_rsum(choice.row),
        "ms": shown_ms(choice.time),
        "sure": _sure(choice),
    }


def _sure(choice: Choice) -> str:
    if choice.unsure:
        return "one seed: how sure its lead is, is not known"
    names = [row.name for row in choice.level]
    if not names:
        return f"{len(choice.row.runs)} seeds: ahead of every row of several seeds"
    more = f" and {len(names) - LEVEL_SHOWN} more" if len(names) > LEVEL_SHOWN else ""
    return f"{len(choice.row.runs)} seeds: not told apart from {', '.join(names[:LEVEL_SHOWN])}{more}"
