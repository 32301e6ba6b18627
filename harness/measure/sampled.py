"""What the timing phase samples of a row, and whether stored samples are of that: told without torch."""

from __future__ import annotations

from collections.abc import Mapping

from harness.measure.provenance import machine
from harness.record import CostRecord
from harness.spec.job import Job

STAGES = ("encode_images", "encode_texts", "score", "rank")
IMAGES, CAPTIONS, QUERIES = 256, 512, 256  # items of one sample, fewer where the split has fewer
BUDGET_S = 10.0  # of one row: half for its rounds, half for single queries
GALLERIES = (1_000, 5_000, 10_000, 100_000, 1_000_000)  # that single queries are timed in, and the data's own


def stages(job: Job) -> tuple[str, ...]:
    """Those that a row has: one from files was encoded elsewhere."""
    return STAGES[2:] if job.model.given else STAGES


def sizes(images: int, captions: int) -> dict[str, int]:
    """Items of one sample of each stage, of a split of so many."""
    return {
        "images": min(IMAGES, images),
        "captions": min(CAPTIONS, captions),
        "queries": min(QUERIES, captions),
        "gallery": images,
    }


def galleries(own: int) -> tuple[int, ...]:
    """The galleries of a report; own: images of the data's own."""
    return tuple(sorted({*GALLERIES, own}))


def is_current(
    cost: CostRecord | None, job: Job, load: Mapping[str, int], rounds: int, budget_s: float = BUDGET_S
) -> bool:
    """Whether stored samples are of this machine and load (`sizes`), and of as many rounds and seconds as are asked
    for."""
    return (
        cost is not None
        and cost.machine == machine(job.settings)
        and cost.sizes == load
        and dict(cost.asked) == {"rounds": rounds, "budget_s": budget_s}
        and all(0 < len(cost.samples_s.get(stage, ())) <= rounds for stage in stages(job))
        and [entry["items"] for entry in cost.galleries] == list(galleries(load["gallery"]))
        and all("stages_ms" in entry for entry in cost.galleries)
    )
