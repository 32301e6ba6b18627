"""One training loop for every model: shared settings in, the weights of the best dev epoch out.

Every epoch, or part of a length in updates, ends with a look at dev and a checkpoint; a run that was killed goes on
from the last one and ends with the same numbers.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from harness.data.prepared import Side, steps_per_epoch, update_batches
from harness.learn.checkpoint import Checkpoints
from harness.learn.parallel import ALONE, Alone
from harness.learn.schedule import Plan
from harness.precision import autocast
from harness.progress import Progress, Watch, unwatched
from harness.protocol import PairBatch, Retriever
from harness.spec.job import Settings


class NonFiniteLoss(ArithmeticError):
    """A loss term that is NaN or infinite; names epoch, step and term."""


@dataclass(frozen=True)
class Fit:
    """How training went."""

    history: list[dict[str, Any]]  # one entry per look at dev: every epoch, or part of a length in updates
    best_epoch: int | None  # which entry; None where there was nothing to train


def trained_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def optimiser(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimiser]
    trained = [p for p in model.parameters() if p.requires_grad]
    return kind(trained, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)  # one pass per parameter


def total(losses: dict[str, Tensor], where: str) -> Tensor:
    """Sum of the terms, ().  Raises NonFiniteLoss."""
    for term, value in losses.items():
        if not torch.isfinite(value):
            raise NonFiniteLoss(f"loss term {term} is {value.item()} at {where}")
    return torch.stack(list(losses.values())).sum()


def train_step(
    model: Retriever,
    batch: PairBatch,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    where: str,
    team: Alone = ALONE,
) -> dict[str, float]:
    """One update.  Returns the loss terms, their total and the gradient norm before clipping.

    The names of its parts are those of a profiler's trace (harness.measure.trace).
    """
    with autocast(settings):
        with record_function("train/encode"):
            images, texts = team.encoded(model, batch, settings.seed)
        with record_function("train/losses"):
            losses = team.losses(model, images, texts, batch)
    loss = total(losses, where)
    optimizer.zero_grad(set_to_none=True)
    with record_function("train/backward"):
        loss.backward()
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        team.average(trained)
    with record_function("train/update"):
        norm = nn.utils.clip_grad_norm_(trained, settings.clip or math.inf)
        if not torch.isfinite(norm):
            raise NonFiniteLoss(f"the gradient norm is {norm.item()} at {where}")
        optimizer.step()
    return {name: value.item() for name, value in losses.items()} | {"total": loss.item(), "gradient_norm": norm.item()}


def fit(
    model: Retriever,
    train: Side,
    dev_rsum: Callable[[], float],
    settings: Settings,
    checkpoints: Checkpoints,
    watch: Watch = unwatched,
    team: Alone = ALONE,
) -> Fit:
    """Trains `model` in place and leaves it with the weights of the best epoch: highest dev Rsum, the earlier on a tie.

    team: this process, or the processes that do so together, each with its own copy of the model.
    Goes on from `checkpoints` where there is one, and ends before its time where the settings say so.
    Raises NonFiniteLoss.
    """
    if not trained_parameters(model):
        if team.first:
            checkpoints.save_best(model)
        return Fit([], None)
    plan = Plan(settings, steps_per_epoch(train, settings.batch))
    optimizer = optimiser(model, settings)
    history = _resume(model, optimizer, checkpoints, settings)
    while len(history) < len(plan.ends) and not (history and "stopped" in history[-1]):
        history.append(_part(model, train, dev_rsum, optimizer, plan, history, watch, team))
        if team.first and _best(history) == len(history) - 1:
            checkpoints.save_best(model)
        history[-1] |= _stop(history, settings)
        if team.first:
            checkpoints.save_last(_state(model, optimizer, history))
        watch(_over(history[-1], plan))
    team.wait()
    checkpoints.load_best(model)
    return Fit(history, _best(history))


def _part(
    model: Retriever,
    train: Side,
    dev_rsum: Callable[[], float],
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    history: list[dict[str, Any]],
    watch: Watch,
    team: Alone,
) -> dict[str, Any]:
    """The next part of the plan, an epoch as a rule, as an entry of the history."""
    settings, number = plan.settings, len(history)
    start, stop = plan.part(number)
    last_rsum = history[-1]["dev_rsum"] if history else None
    started, sums = time.perf_counter(), defaultdict[str, float](float)
    model.train()
    for batch in update_batches(train, settings.batch, settings.seed, start, stop, model.needs):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(batch.update)
        where = f"epoch {batch.epoch + 1}, step {batch.update % plan.steps + 1}"
        terms = train_step(model, batch.to(settings.device), optimizer, settings, where, team)
        for name, value in terms.items():
            sums[name] += value
        done, parts = batch.update + 1 - start, len(plan.ends)
        watch(Progress("train", done, stop - start, number, parts, terms["total"], last_rsum, unit=settings.unit))
    means = {name: value / (stop - start) for name, value in sums.items()}
    gradient_norm = means.pop("gradient_norm")
    trained_s = time.perf_counter() - started
    return {
        "epoch": number,
        "updates": stop,
        "lr": plan.rate(stop - 1),
        "losses": means,
        "gradient_norm": gradient_norm,
        "dev_rsum": team.agreed(dev_rsum),
        "train_s": trained_s,
    }


def _stop(history: list[dict[str, Any]], settings: Settings) -> dict[str, str]:
    """Why training ends here, for the last entry of the history; nothing where it does not."""
    best, last = history[_best(history)]["dev_rsum"], history[-1]["dev_rsum"]
    if last >= settings.stop_below * best:
        return {}
    return {"stopped": f"dev Rsum {last:.1f} is less than {settings.stop_below:g} times the best, {best:.1f}"}


def _over(entry: dict[str, Any], plan: Plan) -> Progress:
    terms = dict(entry["losses"])
    total = terms.pop("total")
    start, stop = plan.part(entry["epoch"])
    done, parts = stop - start, len(plan.ends)
    return Progress("epoch", done, done, entry["epoch"], parts, total, entry["dev_rsum"], terms, plan.settings.unit)


def _best(history: list[dict[str, Any]]) -> int:
    return max(range(len(history)), key=lambda epoch: (history[epoch]["dev_rsum"], -epoch))


def _state(model: nn.Module, optimizer: torch.optim.Optimizer, history: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
        "cpu_random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _resume(
    model: nn.Module, optimizer: torch.optim.Optimizer, checkpoints: Checkpoints, settings: Settings
) -> list[dict[str, Any]]:
    """Puts back model, optimiser and random state; returns the history so far, empty where training starts.

    A fresh run reseeds here, so that extra modules built after the host do not shift its dropout.
    """
    state = checkpoints.load_last(settings.device)
    if state is None:
        torch.manual_seed(settings.seed)
        return []
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["cpu_random"].cpu())
    if state["cuda_random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda_random"]])
    return list(state["history"])
