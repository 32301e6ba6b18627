"""VSRN's graph reasoning layer against the published one; its whole image side is in test_selfalign_golden.py."""

import torch

from models.graph import GraphReasoning

NAMES = {"g": "g", "theta": "theta", "phi": "phi", "w": "W.0", "norm": "W.1"}  # ours -> official


def official_layer(file):
    layer = GraphReasoning(32)
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            ours, _, rest = name.partition(".")
            tensor.copy_(file[f"w.{NAMES[ours]}.{rest}"].view(tensor.shape))  # a 1x1 convolution is a Linear
    return layer


def test_graph_reasoning_equals_the_published_layer(golden):
    file = golden("vsrn_gcn")
    layer = official_layer(file)
    mask = torch.ones(4, 9, dtype=torch.bool)
    # the file holds the running statistics that its training call left, so evaluation comes first here
    torch.testing.assert_close(layer.eval()(file["features"], mask), file["eval_out"], rtol=0, atol=1e-5)
    torch.testing.assert_close(layer.train()(file["features"], mask), file["train_out_first_call"], rtol=0, atol=1e-5)
