"""Computes the perplexity of a text with a model that `ptblm export --to onnx` wrote.

    python examples/onnx_perplexity.py small-ptb-onnx text.txt

It needs onnxruntime and numpy, not ptblm or torch.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

directory, text = map(Path, sys.argv[1:])
vocabulary = json.loads((directory / "vocabulary.json").read_text(encoding="utf-8"))
ids = {token: number for number, token in enumerate(vocabulary["tokens"])}
lines = text.read_text(encoding="utf-8").splitlines()
words = [word for line in lines for word in [*line.split(), "<eos>"]]
tokens = np.array([[ids.get(word, ids.get("<unk>")) for word in words]], dtype=np.int64)
session = onnxruntime.InferenceSession(directory / "model.onnx")
state = {i.name: np.zeros((1, 1, i.shape[2]), np.float32) for i in session.get_inputs()[1:]}
(logp,) = session.run(["logp"], {"tokens": tokens[:, :-1], **state})
nll = -np.take_along_axis(logp, tokens[:, 1:, None], axis=2)
print(f"perplexity {np.exp(nll.mean(dtype=np.float64)):.2f}, {nll.size:,} tokens")
