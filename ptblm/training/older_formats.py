"""Brings checkpoints of older formats up to the present one."""

import re
from typing import Any

# Format 2: cells own their weights. Until then a layer was an `nn.LSTM`, whose second bias was
# not trained and held the config's forget_bias.
_RENAMED = {
    "lstm.weight_ih_l0": "cell.gates.weight_ih",
    "lstm.weight_hh_l0": "cell.gates.weight_hh",
    "lstm.bias_ih_l0": "cell.gates.bias",
}
_LAYER = re.compile(r"(recurrent\.layers\.\d+\.)(lstm\.\w+)")


def from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint of format 1 as format 2 has it."""
    trainer = content.get("trainer")
    if not isinstance(trainer, dict) or not isinstance(trainer.get("model"), dict):
        return content
    weights: dict[str, Any] = {}
    for name, tensor in trainer["model"].items():
        layer = _LAYER.fullmatch(str(name))
        if layer is None:
            weights[name] = tensor
        elif layer[2] in _RENAMED:
            weights[layer[1] + _RENAMED[layer[2]]] = tensor
    return {**content, "trainer": {**trainer, "model": weights}, "format": 2}
