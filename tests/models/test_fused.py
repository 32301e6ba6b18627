"""Compiled passes against the equations they compute: values, gradients, and where torch computes instead."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.interactive import bfan, naaf
from harness.protocol import Encoded, Inputs
from harness.spec import registry
from models import fused
from models.attention import (
    attended_cosine,
    attention_weights,
    gram,
    largest,
    products,
    unscaled_weights,
    weighed,
)

pytest.importorskip("numba")

NORMS = ("clipped_l2norm", "l2norm", "clipped_l1norm", "l1norm", "clipped", "no_norm")
FOCUSES = ("", "equal", "prob", "threshold", "mean")
THRESHOLD = 0.05
REAL = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [1, 0, 0, 0, 0]]).bool()  # 3 items of 5 context fragments


def sides(dtype: torch.dtype, queries: int = 4, items: int = 19, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Products (3, 5, Q, Y), their Gram matrices, squared lengths of the queries; more items than lanes."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64) * REAL[..., None]
    asking = torch.randn(items, queries, 7, generator=generator, dtype=torch.float64)
    asking[1::3, 1:] = 0  # captions of one word
    found = products(context, asking), gram(context), asking.square().sum(-1).T.contiguous()
    return tuple(x.to(dtype) for x in found)  # type: ignore[return-value]


def compiled(lam: float, norm: str, focus: str) -> Callable[..., Tensor]:
    value = {"threshold": THRESHOLD}.get(focus, bfan.SLACK)
    weighing = weighed(lam, norm, "" if focus == "mean" else focus, value, focus == "mean")
    assert weighing is not None
    return lambda scores, *rest: fused.attended_cosines(scores, *rest, weighing, REAL)


def eager(lam: float, norm: str, focus: str) -> Callable[..., Tensor]:
    def cosines(scores: Tensor, context_gram: Tensor, squares: Tensor) -> Tensor:
        weights = unscaled_weights(scores, lam, norm, None, REAL)
        if focus in bfan.FOCUSES:
            weights = weights * bfan.kept(weights, focus, REAL)
        if focus == "threshold":
            weights = weights * (scores > THRESHOLD)
        if focus == "mean":
            return (weights * scores).sum(1) / weights.sum(1)
        return attended_cosine(weights, scores, context_gram, squares)

    return cosines


def close(ours: Tensor, twin: Tensor, digits: float) -> None:
    torch.testing.assert_close(ours, twin, rtol=digits, atol=digits * float(twin.detach().abs().max()))


def compare(one: Callable[..., Tensor], other: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    """Values and all gradients, those of pairs that nobody asks for included."""
    digits = 1e-5 if inputs[0].dtype == torch.float32 else 1e-11
    ours, twins = ([x.clone().requires_grad_() for x in inputs] for _ in "ab")
    found, expected = one(*ours), other(*twins)
    real = (inputs[2] > 0).expand_as(found)  # where there is a query
    close(found[real], expected[real], digits)
    wanted = torch.linspace(-1, 2, found.numel(), dtype=found.dtype).view_as(found) * real
    wanted[:, :, 2] = 0
    pairs = zip(*(torch.autograd.grad(f, x, wanted, allow_unused=True) for f, x in ((found, ours), (expected, twins))))  # noqa: B905
    for mine, twin in pairs:
        if twin is not None:
            close(mine, twin, 20 * digits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("focus", FOCUSES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("lam", [9.0, 30.0])
def test_a_pass_is_what_its_equations_say(lam, norm, focus, dtype):
    """Weights that are bounded and those that are not; ragged sides, dropped fragments, single ones, zero queries."""
    if focus in bfan.FOCUSES and lam > 20 and dtype == torch.float32:
        pytest.skip("so steep that rounding tells equal weights apart")
    compare(compiled(lam, norm, focus), eager(lam, norm, focus), sides(dtype))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 35),
    st.sampled_from(NORMS),
    st.sampled_from(FOCUSES),
    st.floats(0.5, 12.0),
    st.integers(0, 99),
)
def test_so_it_is_for_any_lengths(queries, items, norm, focus, lam, seed):
    inputs = sides(torch.float64, queries, max(items, 3), seed)
    compare(compiled(lam, norm, focus), eager(lam, norm, focus), inputs)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("focus", ["", "mean"])
def test_gradients_pass_torchs_own_check(norm, focus):
    scores, context_gram, squares = (x[..., :1] if x.ndim != 3 else x for x in sides(torch.float64, 3))  # no zero query
    inputs = [x.requires_grad_() for x in (scores, squares)]
    pass_of = compiled(4.0, norm, focus)
    assert torch.autograd.gradcheck(lambda s, q: pass_of(s, context_gram, q), inputs)
    lower = context_gram.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda g: pass_of(scores.detach(), (g + g.mT) / 2, squares.detach()), [lower])


def test_the_best_product_and_its_ties_are_those_of_torch(monkeypatch):
    scores = torch.tensor([1.0, 3.0, 3.0, 9.0]).repeat(2, 90).view(2, 90, 4).permute(0, 2, 1).reshape(2, 4, 5, 18)
    scores = scores + torch.arange(18)
    real = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    found = []
    for kernels in ("", "plain"):
        monkeypatch.setenv(fused.SWITCH, kernels)
        leaf = scores.clone().requires_grad_()
        best = largest(leaf, real)
        found.append((best.detach(), *torch.autograd.grad((best * torch.arange(18)).sum(), leaf)))
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=0, atol=0)
    assert found[0][1][0, :, 0, 4].tolist() == [0.0, 2.0, 2.0, 0.0]  # two share what the masked one does not get


def blocks_of(dtype: torch.dtype, features: int = 3, queries: int = 37, seed: int = 0) -> tuple[Tensor, Tensor]:
    """What is attended to in 3 items, 2 blocks, and queries; blocks of zeros on either side and on both."""
    generator = torch.Generator().manual_seed(seed)
    attended, asking = (
        torch.randn(*sizes, 2, features, queries, generator=generator, dtype=torch.float64) for sizes in ((3,), ())
    )
    attended[1, 0, :, ::5] = 0
    asking[1, :, ::4] = 0
    return attended.to(dtype), asking.to(dtype)


def block_cosines(attended: Tensor, queries: Tensor) -> Tensor:
    squares = attended.square().sum(2) * queries.square().sum(1)
    return (attended * queries).sum(2) / squares.clamp(min=1e-16).sqrt()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("queries", [1, 16, 37])
@pytest.mark.usefixtures("same_torch_after")
def test_block_cosines_and_their_gradients_are_those_of_torch(monkeypatch, queries, dtype, threads):
    from models.fused import passes

    monkeypatch.setattr(passes, "FEW", 0)
    torch.set_num_threads(threads)
    inputs = blocks_of(dtype, queries=queries)
    found, grads = [], []
    for call in (lambda *sides: fused.block_cosines(*sides, 1e-16), block_cosines):
        leaves = [side.clone().requires_grad_() for side in inputs]
        found.append(call(*leaves))
        grads.append(
            torch.autograd.grad(found[-1], leaves, torch.linspace(-1, 2, 6 * queries, dtype=dtype).view(3, 2, -1))
        )
    digits = 1e-5 if dtype == torch.float32 else 1e-12
    close(*found, digits)
    for ours, torchs in zip(*grads, strict=True):
        assert ours.isfinite().all()
        close(ours, torchs, digits)


def test_gradients_of_block_cosines_pass_torchs_own_check():
    generator = torch.Generator().manual_seed(0)
    sides = [torch.randn(*sizes, generator=generator, dtype=torch.float64) for sizes in ((2, 2, 3, 5), (2, 3, 5))]
    for least in (1e-16, 4.0):  # of some lengths, of most
        assert torch.autograd.gradcheck(
            lambda a, q, least=least: fused.block_cosines(a, q, least), [side.requires_grad_() for side in sides]
        )


@pytest.mark.parametrize("worst", [float("nan"), float("inf")])
def test_what_is_no_number_does_not_hide(worst):
    for place in (0, 17):
        scores, context_gram, squares = sides(torch.float32, 1, 19)
        scores[0, 2, 0, place] = worst
        squares = squares.clamp(min=1.0)
        assert not fused.largest(scores)[0, 0, place].isfinite()
        found = compiled(9.0, "clipped_l2norm", "")(scores, context_gram, squares)
        assert not found[0, 0, place].isfinite()
        assert found[1:].isfinite().all()


@pytest.mark.usefixtures("same_torch_after")
def test_more_threads_find_the_same(monkeypatch):
    from models.fused import passes

    monkeypatch.setattr(passes, "FEW", 0)
    inputs = sides(torch.float64)
    torch.set_num_threads(2)
    compare(compiled(9.0, "l2norm", ""), eager(9.0, "l2norm", ""), inputs)


def test_gradients_of_any_layout_are_read_right():
    """Such as that of a sum, which is one number in a row of stride 0."""
    scores, context_gram, squares = sides(torch.float64)
    strided = scores.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2).requires_grad_()
    for call in (compiled(9.0, "l2norm", ""), eager(9.0, "l2norm", "")):
        found = call(strided, context_gram, squares)
        (gradient,) = torch.autograd.grad(found.sum(), strided, retain_graph=True)
        (same,) = torch.autograd.grad(found, strided, torch.ones(3, 4, 19, dtype=torch.float64))
        torch.testing.assert_close(gradient, same)
        torch.testing.assert_close(found.detach(), call(scores, context_gram, squares))


LABELS = ("scan:t2i-lse", "scan:i2t-avg", "bfan:equal", "bfan:prob", "naaf", "chan")


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "retrieval"])
def test_a_method_scores_and_learns_alike_with_and_without(monkeypatch, label, training):
    torch.manual_seed(0)
    images = Encoded(contextual=torch.randn(5, 6, 8), mask=torch.arange(6) < torch.tensor([6, 6, 3, 1, 5])[:, None])
    mask = torch.arange(7) < torch.tensor([7, 1, 3, 3, 6, 2, 7, 5, 4])[:, None]
    texts = Encoded(contextual=torch.randn(9, 7, 8) * mask[..., None], mask=mask)
    model = registry.methods()[label.partition(":")[0]]
    built = _built(label).train(training)
    found = []
    for kernels in ("", "plain"):
        monkeypatch.setenv(fused.SWITCH, kernels)
        leaf = images.contextual.clone().requires_grad_()
        scores = built.similarity(replace(images, contextual=leaf), texts)
        with torch.no_grad():
            torch.testing.assert_close(built.similarity(images, texts), scores)
        few = torch.autograd.grad(scores[0, 0] + 2 * scores[3, 4] - scores[1, 7], leaf, retain_graph=True)[0]
        found.append((scores.detach(), few, torch.autograd.grad(scores.square().sum(), leaf)[0]))
    assert model.family == "interactive"
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


def _built(label: str):
    from harness.learn.build import build

    return build(registry.model(label), Inputs(image_dim=3, regions=6, vocabulary=9, dim=8), 0)


# Where torch computes instead


def test_torch_computes_where_no_pass_serves(monkeypatch):
    numbers = torch.ones(2, 3)
    assert fused.serves(numbers, numbers)
    assert not fused.serves(numbers, numbers.double())
    assert not fused.serves(numbers.half())
    assert not fused.serves(torch.ones(0, 3))
    assert not fused.serves(numbers.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused.serves(numbers)
    torch.func.vmap(lambda x: _refused(x))(numbers)
    assert str(fused.compiler()).startswith("numba ")
    monkeypatch.setenv(fused.SWITCH, "plain")
    assert not fused.serves(numbers)
    assert fused.compiler() is None


@pytest.mark.parametrize("label", LABELS)
def test_a_single_caption_is_left_to_torch_and_scores_as_among_others(monkeypatch, label):
    """Its pass would compute sixteen pairs for one; a pass over images, as of SCAN's i2t, is full."""
    images, texts = Encoded(contextual=torch.randn(40, 6, 8)), Encoded(contextual=torch.randn(9, 5, 8))
    built = _built(label).eval()
    wide: list[int] = []
    for name in ("attended_cosines", "largest"):
        called = getattr(fused, name)
        monkeypatch.setattr(
            fused, name, lambda scores, *rest, call=called: (wide.append(len(scores[0, 0, 0])), call(scores, *rest))[1]
        )
    with torch.no_grad():
        among = built.similarity(images, texts)
        assert wide
        wide.clear()
        alone = built.similarity(images, texts.select(slice(2, 3)))
    torch.testing.assert_close(alone, among[:, 2:3])
    assert set(wide) == ({40} if label.startswith(("scan:i2t", "bfan")) else set())


def _refused(x: Tensor) -> Tensor:
    assert not fused.serves(x)
    return x


def test_torch_computes_where_numba_is_not_installed(monkeypatch):
    monkeypatch.setattr(fused, "find_spec", lambda name: None if name == "numba" else importlib.util.find_spec(name))
    assert not fused.serves(torch.ones(2))
    scores, context_gram, _ = sides(torch.float32)
    monkeypatch.setattr(fused, "attended_cosines", None)
    monkeypatch.setattr(fused, "largest", None)
    words = torch.randn(19, 4, 7)
    assert (
        naaf.word_scores(torch.randn(3, 5, 7), words, None, None, torch.tensor(0.1), 9.0, 5.0, context_gram)
        .isfinite()
        .all()
    )
    assert attention_weights(scores, 2.0).isfinite().all()
    assert largest(scores).shape == (3, 4, 19)


def test_importing_models_loads_no_compiler():
    code = "import sys, models.attention, baselines.interactive.scan; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
