"""Losses of label sets, masks, ranks, embeddings and other networks' outputs."""
