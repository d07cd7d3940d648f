"""Evaluation: computes the likelihood of a text under a model, and metrics such as perplexity."""
