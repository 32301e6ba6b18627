"""Functions in another form are those of torch."""

import pytest
import torch

from models import activations

POINTS = torch.cat([torch.linspace(-12, 12, 481, dtype=torch.float64), torch.tensor([1e-9, -1e-4, 1e3, -1e3])])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_hyperbolic_tangent_is_that_of_torch(dtype):
    x, twin = (POINTS.to(dtype, copy=True).requires_grad_() for _ in "ab")
    found, expected = activations.tanh(x), twin.tanh()
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=0, atol=2 * step)
    torch.testing.assert_close(activations.tanh_(x.detach().clone()), expected.detach(), rtol=0, atol=2 * step)
    for y in (found, expected):
        y.backward(torch.linspace(-1, 1, len(y)).to(dtype))
    torch.testing.assert_close(x.grad, twin.grad, rtol=0, atol=8 * step)


def test_it_goes_through_vmap_with_its_gradient():
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    one_by_one = torch.func.vmap(activations.tanh)(x)
    torch.testing.assert_close(one_by_one, x.tanh())
    (found,) = torch.autograd.grad(one_by_one.square().sum(), x, retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(x.tanh().square().sum(), x)[0])


def test_what_is_no_number_stays_none_and_gradients_pass_torchs_own_check():
    ends = torch.tensor([float("nan"), float("inf"), -float("inf")])
    assert activations.tanh(ends)[0].isnan()
    assert activations.tanh(ends)[1:].tolist() == [1.0, -1.0]
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(activations.tanh, x.T.requires_grad_())
