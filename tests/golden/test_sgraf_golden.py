"""SGRAF's scores against the published modules, in evaluation mode.

They span 0.14 (SGR) and 0.015 (SAF) only, hence the tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from baselines.interactive.sgraf import SGRAF, Options
from harness.protocol import Inputs

NAMES = {  # ours -> official
    "image_pooling.local": "v_global_w.embedding_local.0",
    "image_pooling.local_norm": "v_global_w.embedding_local.1",
    "image_pooling.whole": "v_global_w.embedding_global.0",
    "image_pooling.whole_norm": "v_global_w.embedding_global.1",
    "image_pooling.common": "v_global_w.embedding_common.0",
    "text_pooling.local": "t_global_w.embedding_local.0",
    "text_pooling.whole": "t_global_w.embedding_global.0",
    "text_pooling.common": "t_global_w.embedding_common.0",
    "local_similarity": "sim_tranloc_w",
    "global_similarity": "sim_tranglo_w",
    "score": "sim_eval_w",
    "reasoning.gate": "SAF_module.attn_sim_w",
    "reasoning.norm": "SAF_module.bn",
}
for step in range(3):
    for ours, theirs in (("query", "graph_query_w"), ("key", "graph_key_w"), ("out", "sim_graph_w")):
        NAMES[f"reasoning.steps.{step}.{ours}"] = f"SGR_module.{step}.{theirs}"
BEFORE_A_NORM = {"image_pooling.whole_norm": "image_pooling.whole", "reasoning.norm": "reasoning.gate"}


def official_model(arrays: Mapping[str, Tensor], module: str) -> SGRAF:
    """The published weights; a bias that ours has not got before a batch norm moves into the norm's running mean."""
    inputs = Inputs(image_dim=2, regions=36, vocabulary=5, dim=32)
    model = SGRAF(inputs, Options(module, similarity_dim=16)).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            part, _, kind = name.rpartition(".")
            if part in NAMES:
                tensor.copy_(arrays[f"{module.upper()}.{NAMES[part]}.{kind}"])
            if part in BEFORE_A_NORM and kind == "running_mean":
                tensor.sub_(arrays[f"{module.upper()}.{NAMES[BEFORE_A_NORM[part]]}.bias"])
    return model


@pytest.mark.parametrize("module", ["sgr", "saf"])
@torch.inference_mode()
def test_scores_are_those_of_the_published_code(golden, module):
    arrays = golden("sgraf")
    regions, words = arrays["images"], arrays["captions"]
    model = official_model(arrays, module)
    mask = torch.arange(words.shape[1]) < arrays["cap_lens"][:, None]
    images = model.encoded(regions, torch.ones(regions.shape[:2], dtype=torch.bool), model.image_pooling)
    scores = model.similarity(images, model.encoded(words, mask, model.text_pooling))
    torch.testing.assert_close(scores, arrays[f"score.{module.upper()}"], atol=1e-6, rtol=0)
