"""Computes the perplexity of a text with a model that `ptblm export --to onnx` wrote.

    python examples/onnx_perplexity.py small-ptb-onnx text.txt

It needs onnxruntime and numpy, not ptblm or torch.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

STEPS = 100  # tokens at a time, so that a long text needs little memory

directory, text = map(Path, sys.argv[1:])
vocabulary = json.loads((directory / "vocabulary.json").read_text(encoding="utf-8"))
ids = {token: number for number, token in enumerate(vocabulary["tokens"])}
lines = text.read_text(encoding="utf-8").splitlines()
words = [word for line in lines for word in [*line.split(), "<eos>"]]
tokens = np.array([[ids.get(word, ids.get("<unk>")) for word in words]], dtype=np.int64)
session = onnxruntime.InferenceSession(directory / "model.onnx")
state = {i.name: np.zeros((1, 1, i.shape[2]), np.float32) for i in session.get_inputs()[1:]}
nll = 0.0
for start in range(0, tokens.size - 1, STEPS):
    part = tokens[:, start : start + STEPS + 1]
    logp, *last = session.run(None, {"tokens": part[:, :-1], **state})
    state = dict(zip(state, last, strict=True))
    nll -= np.take_along_axis(logp, part[:, 1:, None], axis=2).sum(dtype=np.float64)
print(f"perplexity {np.exp(nll / (tokens.size - 1)):.3f}, {tokens.size - 1:,} tokens")
