"""Exports: equal results in other programs, the files of a directory, and what is rejected."""

import errno
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import yaml

from ptblm.checkpoint.format import load_checkpoint
from ptblm.errors import UsageError
from ptblm.json_files import read_json
from ptblm.run.export import Form, export_model
from ptblm.run.load_model import LoadedModel, load_model
from ptblm.run.train import train
from tests.conftest import REPOSITORY, Ptblm
from tests.run.helpers import last_checkpoint, tiny_config

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

MODELS = {
    "lstm": ["model.cell.forget_bias=1", "model.hidden_size=12"],
    "gru": ["model.cell=gru"],
    "rnn": ["model.cell.type=rnn", "model.cell.activation=relu"],
    "tied": ["model.layer_sizes=[9, 6]", "model.hidden_size=9", "model.embedding_size=6"],
    "summed": ["model.sum_layers=true", "model.output_projection=5"],
    "learned": ["model.initial_state=learned"],
}
MODELS["tied"] += ["model.tie_embeddings=true"]
# ONNX has operators that equal these cells, PyTorch has not.
IN_ONNX = {
    "peepholes": ["model.cell.peepholes=true", "model.cell.forget_bias=1"],
    "activations": ["model.cell.gate_activation=hard_sigmoid", "model.cell.activation=linear"],
    "before": ["model.cell.type=gru", "model.cell.reset_gate=before"],
    "linear": ["model.cell.type=rnn", "model.cell.activation=linear"],
}


@pytest.fixture(scope="module", params=MODELS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("export") / request.param
    train(tiny_config(*MODELS[request.param], "model.num_layers=2"), directory)
    return directory


@pytest.fixture(scope="module")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export") / "lstm"
    train(tiny_config("model.hidden_size=40", "training.epochs=2"), directory)
    return directory


def session(directory: Path) -> Any:
    return onnxruntime.InferenceSession(str(directory / "model.onnx"))


def log_probs(loaded: LoadedModel, tokens: torch.Tensor) -> np.ndarray:
    """The log-probabilities of ptblm, [N, L, V]."""
    with torch.no_grad():
        features, _ = loaded.model.features(tokens, loaded.model.initial_state(len(tokens)))
        values: np.ndarray = loaded.model.head.log_probs(features).transpose(0, 1).numpy()
    return values


def initial(loaded: LoadedModel, session: Any, batch: int) -> dict[str, np.ndarray]:
    parts = [part for layer in loaded.model.initial_state(batch) for part in layer]
    names = [each.name for each in session.get_inputs()[1:]]
    return {n: p.detach().numpy()[None].copy() for n, p in zip(names, parts, strict=True)}


def test_onnx_equals_ptblm_for_any_batch_and_length(run: Path, tmp_path: Path) -> None:
    export_model(run, "onnx", tmp_path / "onnx")
    loaded, model = load_model(run), session(tmp_path / "onnx")
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 1), (1, 7), (3, 1), (2, 35), (5, 4), (1, 100)):
        tokens = torch.randint(loaded.model.vocab_size, shape, generator=generator)
        logp, *_ = model.run(None, {"tokens": tokens.numpy(), **initial(loaded, model, shape[0])})
        np.testing.assert_allclose(logp, log_probs(loaded, tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", IN_ONNX)
def test_onnx_equals_options_of_cells(name: str, tmp_path: Path) -> None:
    train(tiny_config(*IN_ONNX[name], "training.learning_rate=0.1"), tmp_path / "run")
    export_model(tmp_path / "run", "onnx", tmp_path / "onnx")
    loaded, model = load_model(tmp_path / "run"), session(tmp_path / "onnx")
    tokens = torch.arange(24).reshape(2, 12)
    logp, *_ = model.run(None, {"tokens": tokens.numpy(), **initial(loaded, model, 2)})
    np.testing.assert_allclose(logp, log_probs(loaded, tokens), rtol=0, atol=1e-5)
    export_model(tmp_path / "run", "onnx", tmp_path / "scorer", scorer=True)
    (nll,) = session(tmp_path / "scorer").run(
        ["nll"], {"x": tokens[:, 1:].numpy(), "x_lens": np.array([11, 4])}
    )
    assert np.isfinite(nll).all()
    with pytest.raises(UsageError, match="PyTorch has no equivalent"):
        export_model(tmp_path / "run", "transformers", tmp_path / "out")


def test_onnx_file_has_the_initial_state(tmp_path: Path) -> None:
    train(tiny_config("model.initial_state=ones"), tmp_path / "run")
    export_model(tmp_path / "run", "onnx", tmp_path / "onnx")
    metadata = session(tmp_path / "onnx").get_modelmeta().custom_metadata_map
    assert json.loads(metadata["initial_state"]) == [[1.0] * 4] * 4
    assert "`initial_state`" in (tmp_path / "onnx" / "README.md").read_text()


def test_onnx_continues_from_its_state(run: Path, tmp_path: Path) -> None:
    export_model(run, "onnx", tmp_path / "onnx")
    loaded, model = load_model(run), session(tmp_path / "onnx")
    tokens = torch.arange(20).reshape(2, 10)
    state = initial(loaded, model, 2)
    names = [output.name for output in model.get_outputs()]
    parts = []
    for part in tokens.split([3, 1, 6], dim=1):
        logp, *states = model.run(None, {"tokens": part.numpy(), **state})
        state = dict(zip(state, states, strict=True))
        parts.append(logp)
    assert [name.replace("_out", "_in") for name in names[1:]] == list(state)
    np.testing.assert_allclose(
        np.concatenate(parts, axis=1), log_probs(loaded, tokens), rtol=0, atol=1e-5
    )


def test_onnx_file_has_no_fixed_length(lstm: Path, tmp_path: Path) -> None:
    import onnx

    export_model(lstm, "onnx", tmp_path / "onnx")
    model = onnx.load(tmp_path / "onnx" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    (tokens, *_) = model.graph.input
    shape = [dim.dim_param for dim in tokens.type.tensor_type.shape.dim]
    assert shape == ["batch", "time"]
    metadata = {each.key: each.value for each in model.metadata_props}
    assert json.loads(metadata["tokens"])[int(metadata["end_id"])] == "<eos>"


def test_quantized_perplexity_is_within_a_thousandth(
    lstm: Path, tmp_path: Path, ptblm: Ptblm
) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes((REPOSITORY / "data" / "sample" / "test.txt").read_bytes())
    perplexities = []
    for int8 in (False, True):
        target = tmp_path / f"int8-{int8}"
        export_model(lstm, "onnx", target, int8=int8)
        example = REPOSITORY / "examples" / "onnx_perplexity.py"
        command = [sys.executable, str(example), str(target), str(text)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        perplexities.append(float(shown.split()[1].rstrip(",")))
    expected = json.loads(ptblm("eval", lstm, "--text", text, "--json").stdout)["perplexity"]
    assert perplexities[0] == pytest.approx(expected, abs=0.001)
    assert perplexities[1] == pytest.approx(expected, rel=0.002)
    sizes = [(tmp_path / f"int8-{int8}" / "model.onnx").stat().st_size for int8 in (False, True)]
    assert sizes[1] < 0.5 * sizes[0]


def test_scorer_gives_the_loss_of_padded_sentences(lstm: Path, tmp_path: Path) -> None:
    export_model(lstm, "onnx", tmp_path / "onnx", scorer=True)
    loaded, model = load_model(lstm), session(tmp_path / "onnx")
    end = loaded.tokenizer.line_end_id
    x, lengths = np.arange(18).reshape(3, 6), np.array([6, 2, 0])
    (nll,) = model.run(["nll"], {"x": x, "x_lens": lengths})
    for sentence, length, found in zip(x, lengths, nll, strict=True):
        ids = torch.tensor([[end, *sentence[:length].tolist(), end]])
        values, _ = loaded.model.nll(ids[:, :-1], ids[:, 1:], loaded.model.initial_state(1))
        assert found == pytest.approx(values.sum().item(), rel=1e-5)
    metadata = model.get_modelmeta().custom_metadata_map
    assert metadata["model_type"] == "rnnlm"
    assert metadata["sos_id"] == metadata["eos_id"] == str(end)


def test_safetensors_reload_bit_for_bit(run: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    export_model(run, "safetensors", tmp_path / "out")
    found, checkpoint = (
        load_file(tmp_path / "out" / "model.safetensors"),
        load_checkpoint(last_checkpoint(run)),
    )
    torch.testing.assert_close(found, checkpoint.model, rtol=0, atol=0)
    vocabulary = read_json(tmp_path / "out" / "vocabulary.json")
    assert vocabulary == checkpoint.vocabulary
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text()) == checkpoint.config


@pytest.mark.parametrize("form", ["safetensors", "onnx", "transformers"])
def test_full_disk_is_one_error_and_leaves_nothing(
    form: Form, lstm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # Every write to a file ends in one of these.
    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UsageError, match="No space left"):
        export_model(lstm, form, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_safetensors_needs_no_package(lstm: Path, tmp_path: Path) -> None:
    program = (
        "import importlib.abc, sys\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in ('safetensors', 'onnx', 'onnxruntime'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from pathlib import Path\n"
        "from ptblm.run.export import export_model\n"
        "for form in ('safetensors', 'transformers'):\n"
        "    export_model(Path(sys.argv[1]), form, Path(form))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program, str(lstm)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    for form in ("safetensors", "transformers"):
        assert (tmp_path / form / "model.safetensors").is_file()


def test_transformers_directory_gives_the_same_logits(run: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    export_model(run, "transformers", tmp_path / "out")
    options = {"trust_remote_code": True}
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", **options).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", **options)
    loaded = load_model(run)
    batch = tokenizer(["the gulls dive xyzzy", "the"], return_tensors="pt", padding=True)
    ids = loaded.tokenizer.vocabulary.ids
    assert batch.input_ids[0].tolist() == [
        ids[word] for word in ("<eos>", "the", "gulls", "dive", "<unk>")
    ]
    logits = model(**batch).logits.log_softmax(dim=-1).detach().numpy()
    np.testing.assert_allclose(logits, log_probs(loaded, batch.input_ids), rtol=0, atol=1e-5)


def test_minicons_scores_equal_those_of_ptblm(lstm: Path, tmp_path: Path, ptblm: Ptblm) -> None:
    scorer = pytest.importorskip("minicons.scorer", reason="needs minicons")
    transformers = pytest.importorskip("transformers")
    export_model(lstm, "transformers", tmp_path / "out")
    options = {"trust_remote_code": True}
    model = scorer.IncrementalLMScorer(
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", **options),
        "cpu",
        tokenizer=transformers.AutoTokenizer.from_pretrained(tmp_path / "out", **options),
    )
    (found,) = model.token_score(["the gulls dive often"], surprisal=True, base_two=True)
    (tmp_path / "text.txt").write_text("the gulls dive often\n")
    rows = ptblm("score", lstm, "text.txt").stdout.splitlines()[1:]
    expected = [float(row.split("\t")[3]) for row in rows]
    assert [value for _, value in found[1:]] == pytest.approx(expected[:-1], abs=1e-5)


def test_transformers_files_describe_the_model(lstm: Path, tmp_path: Path) -> None:
    _, files = export_model(lstm, "transformers", tmp_path / "out")
    assert files == [
        *("README.md", "config.json", "model.safetensors", "modeling_ptblm.py"),
        *("tokenizer.json", "tokenizer_config.json"),
    ]
    config, tokenizer = (read_json(tmp_path / "out" / name) for name in (files[1], files[4]))
    vocabulary = load_model(lstm).tokenizer.vocabulary
    assert config["vocab_size"] == len(vocabulary)
    assert config["layer_sizes"] == [40, 40]
    assert tokenizer["model"]["vocab"] == vocabulary.ids
    assert tokenizer["post_processor"]["special_tokens"]["<eos>"]["ids"] == [
        vocabulary.ids["<eos>"]
    ]


def test_card_has_the_results_of_the_run(lstm: Path, tmp_path: Path) -> None:
    export_model(lstm, "safetensors", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    metadata = yaml.safe_load(re.fullmatch(r"---\n(.*?)---\n.*", card, re.DOTALL)[1])  # type: ignore[index]
    (results,) = metadata["model-index"][0]["results"]
    result = read_json(lstm / "result.json")
    found = {each["name"].split()[0]: each["value"] for each in results["metrics"]}
    assert found["test"] == pytest.approx(result["test_perplexity"], abs=1e-4)
    assert found["valid"] == pytest.approx(result["valid_perplexity"], abs=1e-4)
    assert all("one stream" in each["name"] for each in results["metrics"])
    assert f"| test perplexity | {result['test_perplexity']:.2f} |" in card
    moved = tmp_path / "alone.safetensors"
    moved.write_bytes(last_checkpoint(lstm).read_bytes())
    export_model(moved, "safetensors", tmp_path / "other")
    assert "model-index" not in (tmp_path / "other" / "README.md").read_text()


def test_names_of_strangers_are_text_in_the_card(lstm: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a: [b]\n---\n<img onerror=x>"
    odd.mkdir()
    (odd / "model.safetensors").write_bytes(last_checkpoint(lstm).read_bytes())
    export_model(odd / "model.safetensors", "safetensors", tmp_path / "out")
    export_model(lstm, "safetensors", tmp_path / "second")
    assert "<img" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.cell=mogrifier"], "no equivalent of Mogrifier"),
        (["model.cell.projection_size=3"], "no equivalent of LSTM with these options"),
        (["model.cell.cap_input_gate=true"], "no equivalent of LSTM with these options"),
        (["model.head=mixture"], "not a plain softmax"),
        (["model.head=adaptive"], "not a plain softmax"),
    ],
)
def test_model_without_equivalent_is_rejected(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    train(tiny_config(*overrides), tmp_path / "run")
    for form in ("onnx", "transformers"):
        with pytest.raises(UsageError, match=message) as caught:
            export_model(tmp_path / "run", form, tmp_path / "out")
        assert "--to safetensors" in str(caught.value)
    assert not (tmp_path / "out").exists()
    export_model(tmp_path / "run", "safetensors", tmp_path / "out")
    assert list(tmp_path.glob("*.part")) == []


def test_character_model_has_no_tokenizer_in_transformers(tmp_path: Path) -> None:
    train(tiny_config("data.tokenizer=char"), tmp_path / "run")
    with pytest.raises(UsageError, match="model of characters"):
        export_model(tmp_path / "run", "transformers", tmp_path / "out")
    export_model(tmp_path / "run", "onnx", tmp_path / "out")
    assert math.isfinite(session(tmp_path / "out").get_inputs()[1].shape[2])


def test_bpe_model_has_its_tokenizer_in_transformers(tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers", reason="needs tokenizers")
    train(tiny_config("data.tokenizer=bpe", "data.vocabulary.size=300"), tmp_path / "run")
    export_model(tmp_path / "run", "transformers", tmp_path / "out")
    loaded, text = load_model(tmp_path / "run"), "the gulls  dive, caf\u00e9 \U0001f600"
    theirs = library.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    expected = [loaded.tokenizer.line_end_id, *line_ids(loaded, text)]
    assert theirs.encode(text).ids == expected
    assert theirs.decode(expected) == text
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    options = {"trust_remote_code": True}
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", **options)
    batch = tokenizer([text], return_tensors="pt")
    assert batch.input_ids[0].tolist() == expected
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", **options).eval()
    logits = model(input_ids=batch.input_ids).logits.log_softmax(dim=-1).detach().numpy()
    np.testing.assert_allclose(logits, log_probs(loaded, batch.input_ids), rtol=0, atol=1e-5)


def line_ids(loaded: LoadedModel, text: str) -> list[int]:
    ids = loaded.tokenizer.vocabulary.ids
    return [ids[token] for token in loaded.tokenizer.tokens_of(text)]


def test_command_lists_files_and_keeps_existing_ones(lstm: Path, ptblm: Ptblm) -> None:
    exported = ptblm("export", lstm, "--to", "onnx")
    assert exported.stdout.splitlines() == [
        f"written      lstm-onnx/{name}" for name in ("README.md", "model.onnx", "vocabulary.json")
    ]
    again = ptblm("export", lstm, "--to", "onnx")
    assert again.returncode == 2
    assert "error: the directory of the export exists" in again.stderr
    other = ptblm("export", lstm, "--to", "safetensors", "--int8")
    assert "belong to --to onnx" in other.stderr
    nowhere = ptblm("export", lstm, "--to", "safetensors", "-o", "no/where")
    assert nowhere.returncode == 2
    assert "create the parent directory" in nowhere.stderr


def test_overwrite_replaces_exports_only(lstm: Path, tmp_path: Path, ptblm: Ptblm) -> None:
    target = tmp_path / "out"
    command = ["export", lstm, "--overwrite", "-o", target, "--to"]
    for form in ("safetensors", "onnx"):
        assert ptblm(*command, form).returncode == 0
    assert sorted(os.listdir(target)) == ["README.md", "model.onnx", "vocabulary.json"]
    (target / "notes").write_text("mine")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name, problem in {
        "out": "contains notes",
        "link": "is a file or a link",
        "file": "is a file or a link",
        "empty": "does not contain an export",
    }.items():
        with pytest.raises(UsageError, match=problem):
            export_model(lstm, "onnx", tmp_path / name, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["empty", "file", "link", "out"]


def test_failed_overwrite_keeps_the_old_export(
    lstm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    export_model(lstm, "onnx", target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UsageError, match="Input/output error"):
        export_model(lstm, "safetensors", target, overwrite=True)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert os.listdir(tmp_path) == ["out"]


def test_model_that_is_too_large_for_onnx_is_rejected(
    lstm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptblm.run.export._MAX_ONNX_BYTES", 1000)
    with pytest.raises(UsageError, match="holds at most 2 GB") as caught:
        export_model(lstm, "onnx", tmp_path / "out")
    assert "--to safetensors" in str(caught.value)


def test_missing_package_is_named(
    lstm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="requires the onnx package") as caught:
        export_model(lstm, "onnx", tmp_path / "out")
    assert "pip install 'ptblm[export]'" in str(caught.value)
