"""Tied embeddings: the weight of the softmax is the table of the embedding."""

import copy
from pathlib import Path

import pytest
import torch

from ptblm.checkpoint.format import Checkpoint, load_checkpoint, save_checkpoint
from ptblm.config.loading import load_config
from ptblm.config.model import ModelConfig
from ptblm.errors import ConfigError
from ptblm.model.build import build_model
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import RecurrentLayer
from ptblm.training.clipping import global_norm
from tests.in_process import ptblm
from tests.run.helpers import options, tiny

TIED = "model.tie_embeddings=true"


def make_model(*, is_tied: bool, fused: bool = True, **keys: object) -> LanguageModel:
    config = ModelConfig(hidden_size=5, num_layers=2, tie_embeddings=is_tied, **keys)  # type: ignore[arg-type]
    model = build_model(config, 11, fused=fused)
    model.initialize(Initializer("uniform", 0.5), torch.Generator().manual_seed(1))
    return model.double()


def backward(model: LanguageModel) -> None:
    ids = torch.randint(11, (3, 5), generator=torch.Generator().manual_seed(2))
    loss, _, _ = model(ids[:, :-1], ids[:, 1:], model.initial_state(3))
    loss.backward()


@pytest.mark.parametrize(("name", "count"), [("medium", 13_275_200), ("small", 2_651_600)])
def test_table_is_counted_once(name: str, count: int) -> None:
    # 19,775,200 and 4,651,600 untied, less V * H.
    with torch.device("meta"):
        model = build_model(load_config(name, [TIED]).model, 10_000)
    assert model.parameter_count() == count


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_gradient_is_the_sum_of_both_uses(fused: bool) -> None:
    tied, untied = make_model(is_tied=True, fused=fused), make_model(is_tied=False)
    weights = tied.state_dict()
    untied.load_state_dict({**weights, "head.weight": weights["embedding.weight"]})
    for model in (tied, untied):
        backward(model)
    both = untied.embedding.weight.grad, untied.head.weight.grad
    assert tied.embedding.weight.grad is not None
    assert both[0] is not None
    assert both[1] is not None
    torch.testing.assert_close(tied.embedding.weight.grad, both[0] + both[1])
    others = [p.grad for name, p in tied.named_parameters() if name != "embedding.weight"]
    expected = torch.cat(
        [(both[0] + both[1]).flatten(), *(g.flatten() for g in others if g is not None)]
    )
    assert global_norm(tied.parameters()).item() == pytest.approx(expected.norm().item())


def test_initial_table_is_that_of_an_untied_model() -> None:
    tied, untied = make_model(is_tied=True).state_dict(), make_model(is_tied=False).state_dict()
    assert tied.keys() == untied.keys() - {"head.weight"}
    for name in tied.keys() - {"head.bias"}:
        assert torch.equal(tied[name], untied[name])


@pytest.mark.parametrize("way", ["copied", "loaded", "assigned", "from meta"])
def test_weights_stay_tied(way: str) -> None:
    model = make_model(is_tied=True)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    if way == "copied":
        model = copy.deepcopy(model)
    elif way == "from meta":
        with torch.device("meta"):
            model = build_model(ModelConfig(hidden_size=5, tie_embeddings=True), 11)
    if way != "copied":
        model.load_state_dict(weights, assign=way != "loaded")
    assert model.head.weight is model.embedding.weight
    assert torch.equal(model.head.weight, weights["embedding.weight"])
    assert "head.weight" not in model.state_dict()


def test_missing_weights_are_still_an_error() -> None:
    model = make_model(is_tied=True)
    weights = model.state_dict()
    del weights["embedding.weight"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"embedding.weight"\. '):
        model.load_state_dict(weights)


@pytest.mark.parametrize("is_assigned", [False, True])
def test_weight_of_a_cell_is_not_taken_for_the_tied_one(is_assigned: bool) -> None:
    """In a model by itself, in another module, and in a copy."""

    class Headed(LSTMCell):
        def __init__(self) -> None:
            super().__init__(5, 5)
            self.head = torch.nn.Linear(5, 5)

    model = LanguageModel(11, 5, [RecurrentLayer(Headed())], tie_embeddings=True)
    for module in (model, torch.nn.Sequential(model), copy.deepcopy(model)):
        weights = module.state_dict()
        module.load_state_dict(weights, assign=is_assigned)
        (name,) = (name for name in weights if name.endswith(".head.weight"))
        del weights[name]
        with pytest.raises(RuntimeError, match=rf'Missing key.*: "{name}"\. '):
            module.load_state_dict(weights, assign=is_assigned)


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        (["model.embedding_size=7"], 200),
        (["model.output_projection=7"], 7),
        (["model.cell.projection_size=7"], 7),
        (["model.layer_sizes=[200,7]", "model.embedding_size=9"], 7),
    ],
)
def test_sizes_that_do_not_fit_are_an_error(overrides: list[str], size: int) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("small", [TIED, *overrides])
    assert "model.tie_embeddings: needs an embedding as large as" in str(caught.value)
    assert f"set model.embedding_size to {size} or model.output_projection" in str(caught.value)


def rewrite(path: Path, checkpoint: Checkpoint, change: str) -> None:
    table = checkpoint.model["embedding.weight"]
    if change == "untied":
        checkpoint.model["head.weight"] = table.clone()
    elif change == "missing":
        del checkpoint.model["embedding.weight"]
    else:
        checkpoint.model["embedding.weight"] = table[:, :-1].clone()
    save_checkpoint(path, checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("untied", "model.head.weight: unknown"),
        ("missing", "model.embedding.weight: missing"),
        ("smaller", "model.embedding.weight: torch.float32 of shape"),
    ],
)
def test_damaged_checkpoints_are_rejected(change: str, message: str, in_directory: Path) -> None:
    arguments = options(tiny(TIED, "training.epochs=1"))
    assert ptblm("train", *arguments, "--run-dir", "run")[0] == 0
    path = Path("run/checkpoints/last.safetensors")
    checkpoint = load_checkpoint(path)
    assert "head.weight" not in checkpoint.model
    for command in (("checkpoint", "verify"), ("eval",)):
        assert ptblm(*command, str(path))[0] == 0
    rewrite(path, checkpoint, change)
    for command in (("checkpoint", "verify"), ("eval",), ("train", "--resume")):
        target = "run" if command[0] == "train" else str(path)
        extra = ["--set", "training.epochs=2"] if command[0] == "train" else []
        code, errors, output = ptblm(*command, target, *extra)
        assert code == 4, errors
        assert message in errors + output


def test_init_needs_the_same_ties(in_directory: Path) -> None:
    arguments = options(tiny(TIED, "training.epochs=1"))
    assert ptblm("train", *arguments, "--run-dir", "first")[0] == 0
    again = ["train", "--init", "first", "--run-dir", "second"]
    code, errors, _ = ptblm(*again, "--set", "model.tie_embeddings=false")
    assert code == 2
    assert "model.tie_embeddings: is False, but the checkpoint has True" in errors
    assert ptblm(*again)[0] == 0
    assert "head.weight" not in load_checkpoint(Path("second/checkpoints/last.safetensors")).model
