"""Stored weights on other data: nothing is trained, and the data need no split but the one that is ranked."""

from __future__ import annotations

from dataclasses import replace

from harness.data.prepared import opened
from harness.learn.stored import Trained
from harness.learn.trainer import trained_parameters
from harness.measure import evaluator
from harness.measure.concepts import assigned
from harness.measure.provenance import peak_memory_mib, provenance
from harness.measure.ranking import Stream, stream
from harness.phases.train import described
from harness.precision import prepare_torch
from harness.progress import Watch, unwatched
from harness.record import Record
from harness.spec import registry
from harness.spec.job import Data, Job, SpecError
from harness.spec.needs import lacking
from harness.store import Store


def evaluated_job(trained: Trained, data: Data, offers: frozenset[str]) -> Job:
    """What identifies it: data and weights by their content, model and settings as they were trained.

    Raises SpecError where the data lack what the model needs.
    """
    if missing := lacking(trained.job.model, offers):
        raise SpecError(f"{trained.job.model.label} needs {' and '.join(missing)}, which {data.name} does not have")
    of = trained.job.data
    data = replace(
        data, ranked="test", train_images=of.train_images, trained_on=f"{of.name} {of.fingerprint[:16]}".strip()
    )
    return replace(trained.job, data=data, weights=trained.weights)


def execute(trained: Trained, job: Job, store: Store, watch: Watch = unwatched, streamed: Stream = stream) -> Record:
    """Ranks the split and stores the record of an evaluated job.  streamed: what ranks, as of `evaluator.evaluate`.

    Raises DataError where the data are not such as the model reads, or have changed meanwhile.
    """
    prepare_torch(job.settings)
    side = trained.read(opened(job.data).load(job.data.ranked).first(job.data.test_images))
    evaluation = evaluator.evaluate(trained.model, side, job.settings, watch, streamed=streamed)
    record = Record(
        key=job.key,
        label=job.model.label,
        status="ok",
        job=job.as_dict(),
        family=registry.methods()[job.model.method].family,
        parameters=trained_parameters(trained.model),
        data={"vocabulary": trained.tokenizer.size, job.data.ranked: described(side)},
        seconds=evaluation.seconds,
        peak_memory_mib=peak_memory_mib(job.settings.device),
        tied_queries=evaluation.tied_queries,
        fp32=evaluation.fp32,
        provenance=provenance(job.settings),
        evaluated={"run": trained.run, "key": trained.job.key},
    )
    store.save(record, evaluation.ranks, assigned(trained.model, side, trained.words, job.settings))
    return record
