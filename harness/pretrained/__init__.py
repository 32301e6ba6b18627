"""Pretrained models of `transformers` as rows: embeddings, two stages, or pairs alone; frozen, or under a probe."""
