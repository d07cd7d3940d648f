"""`ptblm checkpoint verify` finds everything that an evaluation or a resumed run would fail on."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ptblm.checkpoint.format import Checkpoint, load_checkpoint, save_checkpoint
from ptblm.run.train import train
from tests.in_process import ptblm
from tests.run.helpers import last_checkpoint, tiny_config

Change = Callable[[Checkpoint], object]


def fill(group: str, value: float) -> Change:
    def change(checkpoint: Checkpoint) -> None:
        tensors = getattr(checkpoint, group)
        tensor = tensors[0][0] if group == "hidden_state" else next(iter(tensors.values()))
        tensor.view(-1)[-1] = value

    return change


def set_state(**values: object) -> Change:
    return lambda checkpoint: checkpoint.train_state.update(values)


def set_config(section: str, **values: object) -> Change:
    return lambda checkpoint: checkpoint.config[section].update(values)


def remove_token(token: str) -> Change:
    def change(checkpoint: Checkpoint) -> None:
        tokens = checkpoint.vocabulary["tokens"]
        tokens[tokens.index(token)] = "another"

    return change


def cut_hidden_state(checkpoint: Checkpoint) -> None:
    checkpoint.hidden_state[0] = [part[:-1] for part in checkpoint.hidden_state[0]]


def halve_hidden_state(checkpoint: Checkpoint) -> None:
    checkpoint.hidden_state[0] = [part.half() for part in checkpoint.hidden_state[0]]


def cut_optimizer(checkpoint: Checkpoint) -> None:
    name = next(name for name, tensor in checkpoint.optimizer.items() if tensor.dim() == 2)
    checkpoint.optimizer[name] = checkpoint.optimizer[name][:-1]


def set_8_bit_weights(checkpoint: Checkpoint) -> None:
    name = next(iter(checkpoint.model))
    checkpoint.model[name] = checkpoint.model[name].to(torch.float8_e4m3fn)


def set_history(**values: object) -> Change:
    return lambda checkpoint: checkpoint.train_state["history"][0].update(values)


def renumber_history(checkpoint: Checkpoint) -> None:
    checkpoint.train_state["history"][0]["epoch"] = 7


# The change, a part of the message, and whether an evaluation fails too.
UNUSABLE: dict[str, tuple[Change, str, bool]] = {
    "NaN weight": (fill("model", float("nan")), "not finite", True),
    "infinite weight": (fill("model", float("inf")), "not finite", True),
    "8-bit weights": (set_8_bit_weights, "float8", True),
    "negative perplexity": (set_history(valid_perplexity=-1.0), "not a state", False),
    "perplexity of zero": (set_history(train_perplexity=0.0), "not a state", False),
    "huge average": (set_history(averaged=10**9), "not a state", False),
    "negative average": (set_history(averaged=-1), "not a state", False),
    "step of the history": (set_history(step=38), "not a state", False),
    "NaN learning rate": (set_history(learning_rate=float("nan")), "not a state", False),
    "negative seconds": (set_history(seconds=-1.0), "not a state", False),
    "infinite speed": (set_history(tokens_per_second=float("inf")), "not a state", False),
    "NaN in optimizer": (fill("optimizer", float("nan")), "optimizer.*not finite", False),
    "NaN in hidden state": (fill("hidden_state", float("nan")), "hidden_state.*finite", False),
    "negative epoch": (set_state(epoch=-5), "not a state", False),
    "epoch without history": (set_state(epoch=2), "not a state", False),
    "negative step": (set_state(step=-1), "not a state", False),
    "huge batch": (set_state(batch=10**9), "not a state", False),
    "negative tokens": (set_state(tokens=-1), "not a state", False),
    "NaN loss": (set_state(nll=float("nan")), "not a state", False),
    "epoch of the history": (renumber_history, "not a state", False),
    "missing <eos>": (remove_token("<eos>"), "does not contain <eos>", True),
    "other tokenizer": (set_config("data", tokenizer="byte"), "vocabulary does not contain", True),
    "characters": (set_config("data", tokenizer="char"), "which is not a character", True),
    "hash of the text": (lambda c: c.corpus["sha256"].update(train="x"), "not the hashes", True),
    "batch size": (set_config("training", batch_size=7), "state", False),
    "cut hidden state": (cut_hidden_state, "hidden_state.*shape", False),
    "other dtype of hidden state": (halve_hidden_state, "hidden_state.*float16", False),
    "no optimizer": (lambda c: c.optimizer.clear(), "optimizer: missing", False),
    "NaN loss scale": (
        set_state(loss_scaler={"scale": float("nan"), "good_steps": 0}),
        "loss_scaler: not a state",
        False,
    ),
    "other loss scaler": (set_state(loss_scaler={"scale": "1"}), "loss_scaler", False),
    "no loss scaler": (set_state(loss_scaler=None), "loss_scaler", False),
    "cut optimizer": (cut_optimizer, "optimizer", False),
    "other optimizer": (set_config("training", optimizer={"type": "sgd"}), "optimizer", False),
    "hidden size": (set_config("model", hidden_size=5), "does not fit its own config", True),
    "huge hidden size": (set_config("model", hidden_size=2**62), "config", True),
    "thousand layers": (set_config("model", num_layers=1000), "its own config", True),
    "million layers": (set_config("model", num_layers=10**6), "must be less than", True),
    "unknown key": (set_config("model", other=5), "config is not valid", True),
    "missing key": (lambda c: c.config["model"].pop("dropout"), "lacks model.dropout", True),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("good") / "run"
    optimizer = ["training.optimizer=adam", "training.learning_rate=0.001"]
    train(tiny_config("model.num_layers=2", *optimizer), directory)
    return last_checkpoint(directory)


def test_good_checkpoint_is_good(good: Path) -> None:
    code, errors, output = ptblm("checkpoint", "verify", good)
    assert (code, errors) == (0, "")
    assert output == f"{good}: good, epoch 1, step 39\n"


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_checkpoint_is_bad(name: str, good: Path, tmp_path: Path) -> None:
    change, message, evaluation_fails = UNUSABLE[name]
    path = tmp_path / "last.safetensors"
    checkpoint = copy.deepcopy(load_checkpoint(good))
    change(checkpoint)
    save_checkpoint(path, checkpoint)
    code, _, output = ptblm("checkpoint", "verify", path)
    assert code == 4
    assert output.startswith(f"{path}: bad, ")
    assert _found(message, output), output
    code, errors, _ = ptblm("checkpoint", "show", path)
    assert code == 4
    assert _found(message, errors)
    assert f"  at: {path}" in errors
    code, errors, _ = ptblm("eval", path)
    assert code == (4 if evaluation_fails else 0), errors
    if evaluation_fails:
        assert _found(message, errors)
        assert f"  at: {path}" in errors


@pytest.mark.parametrize("group", ["model", "optimizer"])
def test_resume_from_values_that_are_not_finite(group: str, good: Path, tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "last.safetensors"
    path.parent.mkdir(parents=True)
    checkpoint = load_checkpoint(good)
    fill(group, float("nan"))(checkpoint)
    save_checkpoint(path, checkpoint)
    code, errors, _ = ptblm("train", "--resume", tmp_path / "run", "--set", "training.epochs=2")
    assert code == 4
    assert "not finite" in errors
    assert "shows which checkpoints of a run are intact" in errors


@pytest.mark.parametrize("scale", [1e20, 1e38])
def test_weights_too_large_for_a_perplexity(scale: float, good: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(good)
    bias = torch.linspace(0, scale, len(checkpoint.model["head.bias"]))
    model = {**checkpoint.model, "head.bias": bias}
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, replace(checkpoint, model=model))
    code, errors, output = ptblm("eval", path)
    assert (code, output) == (4, "")
    assert "no finite perplexity" in errors


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
