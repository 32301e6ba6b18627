"""The page's answer to a gallery, a time and a memory of one's own: what its sliders choose from, and the first answer.

The page chooses as `harness.report.tables.choice` does, among the same candidates along the same laws; only whether a
lead could be seen is worked out here, for every lead that some place of the sliders has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from math import isfinite
from typing import Any

from harness.report.tables.candidates import Field
from harness.report.tables.choice import Budget, Candidate, Choice, Offer, choose, ranked
from harness.report.tables.choice_words import accuracy, caveat, cost, verdict

STEPS = (1, 2, 5)  # of a slider between powers of ten
GALLERIES = (*(step * 10**power for power in range(3, 7) for step in STEPS), 10**7)
BUDGETS_MS = (0.1, 0.2, 0.5, *(float(step * 10**power) for power in range(4) for step in STEPS), 10_000.0)
MEMORIES = tuple(2**power for power in range(20, 41))  # 1 MiB to 1 TiB
FIRST = Budget(100_000, 50.0, 2**32)  # before a slider is moved, and on paper

Verdict = Callable[[Candidate, Candidate], str]


def wizard(field: Field) -> dict[str, Any] | None:
    """sliders: name, label, values, words and the first place of each; candidates; verdicts: titles of the best and the
    runner-up, a line feed between, -> words; first: lines for FIRST; left_out.  None where nothing can be chosen."""
    known = [candidate for candidate in field.candidates if _is_finite(candidate)]
    if not known:
        return None

    @cache
    def of_names(best: str, second: str) -> str:
        return verdict(field.rows, by_title[best], by_title[second])

    by_title = {candidate.title: candidate for candidate in known}

    def told(best: Candidate, second: Candidate) -> str:
        return of_names(best.title, second.title)

    return {
        "sliders": _sliders(),
        "candidates": [_plain(candidate) for candidate in known],
        "verdicts": {f"{best.title}\n{second.title}": told(best, second) for best, second in _leads(known)},
        "first": lines(choose(known, FIRST), FIRST, told),
        "left_out": list(field.left_out),
    }


def lines(choice: Choice, budget: Budget, told: Verdict) -> list[str]:
    """What the page says of a choice: the name, then what it is and costs, the runner-up, what is more accurate and
    lies outside, and the caveat."""
    best, second = choice.best, choice.second
    if choice.fastest is None:
        return ["Nothing was timed among so many images."]
    if best is None:
        return ["Nothing fits.", f"The fastest: {_said(choice.fastest)}."]
    found = [best.candidate.title, f"{accuracy(best.candidate)}; {cost(best)}."]
    if second is not None:
        found.append(f"Runner-up: {_said(second)}; {told(best.candidate, second.candidate)}.")
    found += [f"More accurate, but outside: {_said(offer)}." for offer in choice.outside[:1]]
    return [line for line in (*found, caveat(best.candidate, budget.gallery)) if line]


def _said(offer: Offer) -> str:
    return f"{offer.candidate.title}, {accuracy(offer.candidate)}; {cost(offer)}"


def _is_finite(candidate: Candidate) -> bool:
    curve = candidate.curve
    numbers = (candidate.means["rsum"], candidate.bytes_per_image, candidate.rerank_ms, *curve.ms, curve.slope or 0.0)
    return all(map(isfinite, numbers))


def _sliders() -> list[dict[str, Any]]:
    told = (
        ("gallery", "Images searched", GALLERIES, [f"{images:,} images" for images in GALLERIES], FIRST.gallery),
        ("ms", "Time of a query", BUDGETS_MS, [f"{ms:,.10g} ms" for ms in BUDGETS_MS], FIRST.ms),
        ("memory", "Memory of the index", MEMORIES, [_power(size) for size in MEMORIES], FIRST.memory),
    )
    return [
        {"name": name, "label": label, "values": list(values), "words": words, "first": values.index(first)}
        for name, label, values, words, first in told
    ]


def _power(size: int) -> str:
    """`4 GiB`"""
    place = (size.bit_length() - 1) // 10
    return f"{size >> 10 * place} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[place]}"


def _plain(candidate: Candidate) -> dict[str, Any]:
    curve = candidate.curve
    return {
        "name": candidate.name,
        "title": candidate.title,
        "said": accuracy(candidate),
        "rsum": candidate.means["rsum"],
        "k": candidate.k,
        "images": candidate.images,
        "items": list(curve.items),
        "ms": list(curve.ms),
        "slope": curve.slope,
        "least": curve.least,
        "most": curve.most,
        "added": candidate.rerank_ms,
        "bytes": candidate.bytes_per_image,
    }


def _leads(candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, Candidate]]:
    """Best and runner-up of every place of the sliders, each once."""
    seen = set()
    for gallery in GALLERIES:
        found = ranked(candidates, gallery)
        for ms, memory in product(BUDGETS_MS, MEMORIES):
            budget = Budget(gallery, ms, memory)
            inside = (offer.candidate for offer in found if offer.fits(budget))
            best = next(inside, None)
            second = next((candidate for candidate in inside if best and candidate.name != best.name), None)
            if best and second and (best.title, second.title) not in seen:
                seen.add((best.title, second.title))
                yield best, second
