"""The generalised pooling operator against the published one: weights of the places, and what they pool."""

import torch

from models.gpo import GPO


def test_pooling_equals_the_published_operator(golden):
    file = golden("gpo")
    pooling = GPO(position_dim=8, hidden=8, temperature=0.1)
    names = {"reader.gru": "gru", "score": "linear"}  # ours -> official
    with torch.no_grad():
        for name, tensor in pooling.state_dict().items():
            ours, _, rest = name.rpartition(".")
            tensor.copy_(file[f"w.{names[ours]}.{rest}"])
    width = file["features"].shape[1]
    mask = torch.arange(width) < file["lengths"][:, None]
    weights = pooling.weights(file["lengths"], width)
    torch.testing.assert_close(weights, file["weights"].squeeze(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(pooling(file["features"], mask), file["pooled"], rtol=0, atol=1e-5)
