"""One job, top to bottom: data, model, training, evaluation, record.  A plain function of a frozen value."""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness import doors
from harness.atomic import Unwritable
from harness.data.kept import keeping
from harness.data.prepared import Prepared, Side, prepare
from harness.data.split import DataError
from harness.learn.build import build
from harness.learn.checkpoint import Checkpoints
from harness.learn.parallel import Together, check
from harness.learn.taken import hand_over
from harness.learn.trainer import Fit, fit, trained_parameters
from harness.measure import evaluator
from harness.measure.concepts import assigned
from harness.measure.evaluator import Evaluation
from harness.measure.provenance import peak_memory_mib, provenance
from harness.precision import prepare_torch
from harness.progress import Watch, unwatched
from harness.protocol import Retriever
from harness.record import Pretraining, Record
from harness.spec import plugins, pretrained, registry
from harness.spec.job import Job, SpecError
from harness.store import Store


def execute(job: Job, store: Store, watch: Watch = unwatched, keep_scores: bool = False, processes: int = 1) -> Record:
    """Runs the job and stores its record with what it found, its score matrix where an ensemble will want it.

    processes: that train it together.  A job that breaks leaves a record that says how.

    Raises DataError, SpecError and Unwritable: bad input and a full disk are the user's to mend, not an outcome.
    """
    prepare_torch(job.settings)
    data = prepare(job.data, job.settings)
    store.scores_path(job.key).unlink(missing_ok=True)  # of an earlier run of it, whose weights were others
    keep = partial(store.save_scores, job.key) if keep_scores else None
    try:
        model = load_model(job, data)
        hand_over(model, job, data, store)
        checkpoints = Checkpoints(store.checkpoints(job.key))
        with keeping(model):
            started = time.perf_counter()
            pretraining = _pretrained(job, model, data, watch)
            if processes > 1 and trained_parameters(model):
                _together(job, model, store, watch, processes)  # `fit` goes on from what they stored: the end
            dev_rsum = partial(evaluator.rsum, model, data.dev, job.settings)
            found = fit(model, data.train, dev_rsum, job.settings, checkpoints, watch)
            seconds = {"train": time.perf_counter() - started}
            checkpoints.save_vocabulary(data.words, data.train.tokens.ids)
            evaluation = evaluator.evaluate(model, data.ranked, job.settings, watch, keep)
        concepts = assigned(model, data.ranked, data.words, job.settings)
    except (DataError, SpecError, Unwritable):
        raise
    except Exception as error:
        record = _failed(job, data, error)
        store.save(record)
        return record
    record = replace(
        _succeeded(job, data, model, found, evaluation, seconds | evaluation.seconds), pretraining=pretraining
    )
    if processes > 1:  # of place, but what is drawn at random is drawn otherwise
        record = replace(record, provenance={**record.provenance, "processes": processes})
    store.save(record, evaluation.ranks, concepts)
    checkpoints.finish()
    return record


def _together(job: Job, model: Retriever, store: Store, watch: Watch, processes: int) -> None:
    """Training by several processes, of which checkpoints are left.

    Raises SpecError where the model or the machine does not allow it, and whatever one of them raises.
    """
    from harness.learn.processes import run  # torch.distributed takes a while to import, few runs need it

    if job.settings.device.startswith("cuda") and processes > torch.cuda.device_count():
        raise SpecError(f"--processes {processes}: a GPU each is needed, there are {torch.cuda.device_count()}")
    check(model)
    files = plugins.chosen()
    chosen = files.files, files.installed, tuple(pretrained.chosen())
    run(partial(_one_of_several, job, store.folder.resolve(), chosen), processes, job.settings.device, watch)


def _one_of_several(job: Job, folder: Path, chosen: tuple[Any, ...], team: Together, watch: Watch) -> None:
    """What each of the processes does: `execute` up to the end of training."""
    files, installed, models = chosen
    plugins.choose(files, installed)
    pretrained.choose(models)
    if job.settings.device.startswith("cuda"):
        job = replace(job, settings=replace(job.settings, device=f"cuda:{team.rank}"))
    prepare_torch(job.settings)
    data, store = prepare(job.data, job.settings), Store(folder)
    model = load_model(job, data)
    hand_over(model, job, data, store)
    with keeping(model):
        _pretrained(job, model, data, watch)
        dev_rsum = partial(evaluator.rsum, model, data.dev, job.settings)
        fit(model, data.train, dev_rsum, job.settings, Checkpoints(store.checkpoints(job.key)), watch, team)


def lost(job: Job, reason: str) -> Record:
    """The record of a job whose process ended before it could write one."""
    return Record(
        key=job.key,
        label=job.model.label,
        status="failed",
        job=job.as_dict(),
        family=registry.methods()[job.model.method].family,
        error=doors.printable(reason),
        provenance=provenance(job.settings),
    )


def load_model(job: Job, data: Prepared) -> Retriever:
    """The job's model with its first weights, on its device."""
    return build(job.model, data.inputs(job.settings), job.settings.seed, fragments_read=False).to(job.settings.device)


def _pretrained(job: Job, model: Retriever, data: Prepared, watch: Watch) -> Pretraining | None:
    """What a pretrained row brings, once it has seen what it has to see first; None of any other.  Raises SpecError."""
    if not job.model.pretrained:
        return None
    from harness.pretrained import rows  # transformers takes seconds to import, few runs need it

    rows.check(model, data)
    rows.look(model, data, watch)
    return rows.described(model, job.model.options["pairs"])


def _common(job: Job, data: Prepared) -> dict[str, Any]:
    return {
        "key": job.key,
        "label": job.model.label,
        "job": job.as_dict(),
        "family": registry.methods()[job.model.method].family,
        "data": {"vocabulary": data.vocabulary_size}
        | {name: described(side) for name, side in _sides(job, data).items()},
        "provenance": provenance(job.settings),
    }


def _sides(job: Job, data: Prepared) -> dict[str, Side]:
    return {"train": data.train, "dev": data.dev, job.data.ranked: data.ranked}


def described(side: Side) -> dict[str, Any]:
    """Counts and notes of a split, for the record."""
    split = side.split
    return {
        "images": len(split.images),
        "captions": len(split.captions),
        "regions": split.images.regions,
        "dim": split.images.dim,
        "fold_images": split.fold_images,
        "captions_cut": side.tokens.cut,
        "words_at_most": side.tokens.most,
        "unknown_words": round(side.tokens.unknown, 4),
        "captions_without_words": side.tokens.wordless,
        "notes": list(split.notes),
    }


def _failed(job: Job, data: Prepared, error: Exception) -> Record:
    reason = doors.printable(f"{type(error).__name__}: {error}".splitlines()[0])
    where = traceback.extract_tb(error.__traceback__)[-1]
    common = _common(job, data)
    common["provenance"]["failed_in"] = where.name
    return Record(**common, status="failed", error=reason)


def _succeeded(
    job: Job, data: Prepared, model: Retriever, found: Fit, evaluation: Evaluation, seconds: dict[str, float]
) -> Record:
    return Record(
        **_common(job, data),
        status="ok",
        parameters=trained_parameters(model),
        best_epoch=found.best_epoch,
        history=list(found.history),
        seconds=seconds,
        peak_memory_mib=peak_memory_mib(job.settings.device),
        tied_queries=evaluation.tied_queries,
        fp32=evaluation.fp32,
        shortlist=evaluation.shortlist,
    )
