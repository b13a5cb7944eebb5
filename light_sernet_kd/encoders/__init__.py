"""Pretrained networks whose embeddings or states others read, and the cache of these."""
