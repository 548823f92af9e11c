"""Radiomic features as batched operators: tensors in, a feature table out. Knows nothing of training."""
