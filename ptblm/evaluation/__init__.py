"""Evaluation: the likelihood of a text under a model, and the metrics that follow from it."""
