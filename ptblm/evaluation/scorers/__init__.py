"""Evaluation beyond one static model: what follows the forward pass of a model, in this order.

1. Each model, or each dropout sample of a model, reads the text: `reader.py`.
2. The logits are divided by a temperature, and the probabilities are averaged: `averaging.py`.
3. A neural cache is mixed with the mean: `neural_cache.py`.
4. The weights of each model adapt to the tokens that were scored: `dynamic.py`.

`pipeline.py` combines them.
"""
