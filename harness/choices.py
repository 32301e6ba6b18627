"""What can be asked of a run, by the panels of its help; all but `Once` is kept in the TOML file of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from harness import ROOT
from harness.commands import show_version
from harness.doors import NoPlugins
from harness.spec.job import MOST, MOST_IMAGES
from harness.spec.tuning import LEAST_TRIALS, ORDER


@dataclass(frozen=True)
class What:
    """Which jobs."""

    PANEL = "What"
    suite: Annotated[
        str, Option(help="Which list of jobs; --list shows them.  By default full; ablations for --only ablations/...")
    ] = ""
    data: Annotated[str, Option(help="`scenes` (embedded) or a folder in the precomp layout.")] = "scenes"
    only: Annotated[
        str,
        Option(
            help="Rows to run, comma-separated; `*` matches any text, a bare name all its variants; "
            "or questions, as in `ablations/prototypes`, whose arms suite tune tries like rows."
        ),
    ] = ""
    seeds: Annotated[str, Option(help="Seeds in place of the suite's, such as 0,1,2.")] = ""
    row: Annotated[
        list[str],
        Option(
            metavar="NAME=WHAT",
            help="A row made elsewhere: embeddings, scores or lists in a file (.npz, .safetensors, one or two .npy "
            "after commas), or a pretrained model of transformers, a folder or a name on the hub; options such as "
            "scorer=cosine, pairs=400M or head=probe after commas; repeatable.  Alone without --suite and --only.",
        ),
    ] = field(default_factory=list)
    plugin: Annotated[
        list[str],
        Option(metavar="FILE", help="A file with a method of your own, beside the built-in ones; repeatable."),
    ] = field(default_factory=list)
    no_plugins: NoPlugins = False
    paper_of: Annotated[
        str, Option(help="Suite paper: whose published hyper-parameters, f30k or coco; else by the data's name.")
    ] = ""
    ensembles: Annotated[
        bool,
        Option(
            "--ensembles/--no-ensembles",
            help="Rows that average the scores of others, in suites that have them; keeps a score matrix per member.",
        ),
    ] = True


@dataclass(frozen=True)
class How:
    """Settings that every row shares."""

    PANEL = "How"
    epochs: Annotated[int | None, Option(min=1, help="Epochs for every row.")] = None
    updates: Annotated[
        int | None, Option(min=1, max=MOST["updates"], help="Length of every row in updates, in place of epochs.")
    ] = None
    trials: Annotated[
        int | None,
        Option(min=LEAST_TRIALS, max=len(ORDER), help="Suite tune: the first so many trials, for every row the same."),
    ] = None
    untuned: Annotated[
        bool, Option("--untuned", help="The defaults for every row, whatever suite tune has chosen.")
    ] = False
    train_images: Annotated[
        int | None, Option(min=0, max=MOST_IMAGES, help="Train on the first so many images only; 0 = all.")
    ] = None
    set: Annotated[
        list[str], Option("--set", help="Any other setting, as in `--set settings.lr=2e-4`; repeatable.")
    ] = field(default_factory=list)


@dataclass(frozen=True)
class Where:
    """Machine and folders."""

    PANEL = "Where"
    device: Annotated[str, Option(help="cpu, cuda or cuda:N; the same for every row.")] = "cpu"
    threads: Annotated[
        int, Option(min=0, help="CPU threads of torch, of each worker; 0 = all there are, shared out.")
    ] = 0
    score_memory: Annotated[int, Option(min=1, help="MiB for the blocks in which all pairs are scored.")] = 1024
    workers: Annotated[
        int | None,
        Option(
            min=0,
            max=1024,
            envvar="HARNESS_WORKERS",
            help="Jobs at a time, scheduled by Ray; 0 = one after the other in this process.  "
            "By default as many as fit where Ray is installed, else 0.",
            show_default=False,
        ),
    ] = None
    processes: Annotated[
        int,
        Option(
            min=1,
            max=1024,
            help="Processes that train one row together, with --device cuda a GPU each; every batch is shared out, its "
            "loss is that of the whole.  Rows then run one after the other.",
        ),
    ] = 1
    shards: Annotated[
        int,
        Option(
            min=1,
            max=1024,
            help="With --evaluate: workers of Ray that share the images of a row's pairs; the ranks are those of one.",
        ),
    ] = 1
    gpus_per_job: Annotated[
        float | None, Option(min=0, help="Share of a GPU for each worker; for --device cuda 1 by default.")
    ] = None
    address: Annotated[str, Option(help="Use the Ray cluster there: `auto` or HOST:PORT.")] = ""
    storage: Annotated[
        str, Option(help="URI that every node of that cluster reaches, for checkpoints and results.")
    ] = ""
    dashboard: Annotated[bool, Option(help="Serve Ray's dashboard on this machine while jobs run.")] = True
    log: Annotated[
        str,
        Option(
            metavar="NAME[=WHERE],...",
            help="Experiment loggers of Ray Tune: mlflow[=URI], by default a file of the results folder; "
            "wandb[=PROJECT], offline unless WANDB_MODE says otherwise.",
        ),
    ] = ""
    dashboard_port: Annotated[int, Option(min=1024, max=65535, help="Its port, or the next free one.")] = 8265
    results: Annotated[
        Path,
        Option(help="Where results go, in a folder named <suite>-<data>; by default in results.", show_default=False),
    ] = ROOT / "results"


@dataclass(frozen=True)
class Afterwards:
    """What follows training."""

    PANEL = "Afterwards"
    timing_rounds: Annotated[
        int, Option(min=0, max=10_000, help="Timing samples per stage after training; 0 = no timing phase.")
    ] = 7
    timing_budget: Annotated[
        float, Option(min=0.1, help="Seconds a row's timing should take; larger galleries are extrapolated.")
    ] = 10.0
    rerank: Annotated[
        bool, Option("--rerank", help="After training, shortlists of independent rows reranked by interactive ones.")
    ] = False
    truths: Annotated[
        str,
        Option(
            metavar="NAME|FILE,...",
            help="Extended ground truths to measure rows by: eccv, cxc (COCO 5K), or JSON files of right ids.",
        ),
    ] = ""
    judgements: Annotated[
        str,
        Option(
            metavar="FOLDER",
            help="Where people's judgements of pairs lie, ExpertAnnotations.txt and CrowdFlowerAnnotations.txt of "
            "Flickr8k: how far scores agree with them, and what rows find of all that they call right.",
        ),
    ] = ""
    trace: Annotated[
        str | None,
        Option(metavar="[DIR]", help="After training, profiler traces for TensorBoard; DIR or <results>/traces."),
    ] = None


@dataclass(frozen=True)
class Once:
    """Of this call alone."""

    config: Annotated[Path | None, Option(metavar="FILE", help="Repeat the run of this TOML file.")] = None
    save_config: Annotated[Path | None, Option(metavar="FILE", help="Write the run to this TOML file first.")] = None
    evaluate: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="Train nothing: score the weights kept in this results folder on --data."),
    ] = None
    force: Annotated[bool, Option("--force", help="Run again what is already recorded.")] = False
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would run, and stop.")] = False
    list_: Annotated[bool, Option("--list", help="Show all methods and suites, and stop.")] = False
    parameters: Annotated[bool, Option("--parameters", help="With --list: count what each row trains.")] = False
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Show the version, and stop.")
    ] = False
