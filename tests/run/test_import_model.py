"""`ptblm import`: models of other programs give the same perplexity, and nothing of them is run."""

import argparse
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ptblm.checkpoint.format import load_checkpoint
from tests.conftest import FAST, Ptblm
from tests.foreign_models import perplexity, program, randomize
from tests.in_process import ptblm as run
from tests.run.helpers import last_checkpoint

# Of `small_corpus`, in the order in which the words occur.
WORDS = ["the", "cat", "sat", "on", "mat", "<eos>", "a", "dog", "<unk>", "ran"]

# An LSTM with six rows for each unit, which no layer of PyTorch has.
MATRICES = ("rnn.weight_ih_l1", "rnn.weight_hh_l0", "rnn.weight_hh_l1")
ROWS = {"rnn.weight_ih_l0": torch.zeros(36, 5)}
ROWS |= {f"rnn.bias_{kind}_l{layer}": torch.zeros(36) for kind in ("ih", "hh") for layer in (0, 1)}

LEGACY = {"_use_new_zipfile_serialization": False}


def example(module: Any, cell: str, *, tied: bool = False) -> Any:
    model = module.model.RNNModel(cell, len(WORDS), 6 if tied else 5, 6, 2, tied=tied)
    randomize(model, 0.3 if cell == "RNN_RELU" else 0.6)  # the state of a ReLU grows without bound
    return model


def awd(module: Any, *, wrapped: bool = True) -> Any:
    model = module.awd.RNNModel(len(WORDS), 4, 7, 3, wrapped=wrapped)
    randomize(model)
    return model


def whole(model: Any, module: Any) -> Any:
    return model


def state_dict(model: Any, module: Any) -> Any:
    return model.state_dict()


def parallel(model: Any, module: Any) -> Any:
    return torch.nn.DataParallel(model)


def parallel_state_dict(model: Any, module: Any) -> Any:
    others = {"epoch": 3, "args": argparse.Namespace(lr=20.0), "best": np.float64(1.5)}
    return {**others, "state_dict": torch.nn.DataParallel(model).state_dict()}


def compiled_state_dict(model: Any, module: Any) -> Any:
    # The names that torch.compile gives to the parameters, within those of DataParallel.
    return {f"module._orig_mod.{name}": each for name, each in model.state_dict().items()}


def with_optimizer(model: Any, module: Any) -> Any:
    optimizer = torch.optim.Adam(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    randomize(model)
    return [model, module.awd.SplitCrossEntropyLoss(), optimizer]


def half(model: Any, module: Any) -> Any:
    return model.half()


def double(model: Any, module: Any) -> Any:
    return model.double()


CASES: list[tuple[str, Callable[[Any], Any], Callable[[Any, Any], Any], dict[str, Any]]] = [
    ("lstm-whole-zip", lambda m: example(m, "LSTM"), whole, {}),
    ("lstm-whole-legacy", lambda m: example(m, "LSTM"), whole, LEGACY),
    ("lstm-state-dict", lambda m: example(m, "LSTM"), state_dict, {}),
    ("lstm-state-dict-legacy", lambda m: example(m, "LSTM"), state_dict, LEGACY),
    ("gru-tied", lambda m: example(m, "GRU", tied=True), whole, {}),
    ("gru-legacy", lambda m: example(m, "GRU"), whole, LEGACY),
    ("gru-parallel", lambda m: example(m, "GRU"), parallel, {}),
    ("gru-state-dict", lambda m: example(m, "GRU"), parallel_state_dict, {}),
    ("lstm-compiled", lambda m: example(m, "LSTM"), compiled_state_dict, {}),
    ("tanh-whole", lambda m: example(m, "RNN_TANH"), whole, {}),
    ("relu-legacy", lambda m: example(m, "RNN_RELU"), whole, LEGACY),
    ("lstm-half", lambda m: example(m, "LSTM"), half, {}),
    ("lstm-double", lambda m: example(m, "LSTM"), double, LEGACY),
    ("awd-list-zip", awd, with_optimizer, {}),
    ("awd-list-legacy", awd, with_optimizer, LEGACY),
    ("awd-state-dict", awd, state_dict, {}),
    ("awd-unwrapped", lambda m: awd(m, wrapped=False), whole, {}),
]


def save(directory: Path, make: Any, form: Any, options: dict[str, Any], ids: list[int]) -> float:
    """Saves a model to model.pt; returns its perplexity as its own class computes it."""
    with program(directory) as module:
        model = make(module)
        torch.save(form(model, module), directory / "model.pt", **options)
        return perplexity(model, ids)


def ids_of(path: Path) -> list[int]:
    return [WORDS.index(w) for w in path.read_text().replace("\n", " <eos> ").split()]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return path


@pytest.fixture
def lstm(tmp_path: Path, small_corpus: Path, vocabulary: Path) -> Path:
    """An imported LSTM, by a list of words."""
    save(tmp_path, *CASES[0][1:], ids_of(small_corpus / "test.txt"))
    arguments = ("import", tmp_path / "model.pt", "--vocab", vocabulary, "-o", tmp_path / "run")
    code, errors, _ = run(*arguments)
    assert code == 0, errors
    return tmp_path / "run"


@pytest.mark.parametrize(("name", "make", "form", "options"), CASES, ids=[c[0] for c in CASES])
def test_perplexity_equals_that_of_the_class(
    name: str, make: Any, form: Any, options: Any, in_directory: Path, small_corpus: Path
) -> None:
    expected = save(in_directory, make, form, options, ids_of(small_corpus / "test.txt"))
    code, errors, _ = run("import", "model.pt", "--vocab-from", small_corpus, "-o", "run")
    assert code == 0, errors
    code, errors, output = run("eval", "run", "--json")
    assert code == 0, errors
    result = json.loads(output)
    assert result["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert result["text"] == "test split of corpus"


def test_import_in_a_process_without_the_class(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    expected = save(tmp_path, *CASES[1][1:], ids_of(small_corpus / "test.txt"))
    result = ptblm("import", "model.pt", "--vocab-from", "corpus")
    assert result.returncode == 0, result.stderr
    assert "runs/model/checkpoints/last.safetensors" in result.stdout
    assert "words of the valid and test splits" in result.stderr
    result = ptblm("eval", "runs/model", "--json")
    assert json.loads(result.stdout)["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_checkpoint_records_its_origin(lstm: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(last_checkpoint(lstm))
    sha256 = hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest()
    assert checkpoint.imported_from == {"file": "model.pt", "sha256": sha256, "kind": "examples"}
    assert checkpoint.vocabulary["tokens"] == WORDS
    assert checkpoint.config["model"]["dropout"]["output"] == 0.25
    code, _, output = run("checkpoint", "show", lstm)
    assert code == 0
    assert "imported     model.pt (examples)" in output
    assert sha256 in output
    assert "corpus       unknown" in output
    code, _, output = run("checkpoint", "verify", lstm)
    assert (code, "good" in output) == (0, True)


def test_files_of_an_imported_model(lstm: Path) -> None:
    names = {path.relative_to(lstm).as_posix() for path in lstm.rglob("*.*")}
    assert names == {"config.yaml", "environment.json", "checkpoints/last.safetensors"}


def test_counts_are_those_of_the_training_split(in_directory: Path, small_corpus: Path) -> None:
    save(in_directory, *CASES[0][1:], ids_of(small_corpus / "test.txt"))
    (small_corpus / "test.txt").write_text("the cat newcomer\n")
    code, errors, _ = run("import", "model.pt", "--vocab-from", "corpus", "-o", "run")
    assert code == 3
    assert "the vocabulary has 11 words, but the model has 10" in errors
    (small_corpus / "test.txt").write_text("the cat\n")
    assert run("import", "model.pt", "--vocab-from", "corpus", "-o", "run")[0] == 0
    vocabulary = load_checkpoint(last_checkpoint(Path("run"))).vocabulary
    expected = {"the": 160, "cat": 80, "<eos>": 120, "<unk>": 40, "ran": 40}
    counts = dict(zip(vocabulary["tokens"], vocabulary["counts"], strict=True))
    assert {word: counts[word] for word in expected} == expected


def test_eval_needs_a_text_if_the_corpus_is_unknown(lstm: Path, small_corpus: Path) -> None:
    code, errors, _ = run("eval", lstm)
    assert code == 2
    assert "the corpus of an imported model is unknown" in errors
    assert "hint: pass --data or --text" in errors
    code, _, output = run("eval", lstm, "--data", small_corpus)
    assert (code, "last.safetensors, not trained by ptblm\n" in output) == (0, True)
    assert run("eval", lstm, "--text", small_corpus / "test.txt")[0] == 0


def test_resume_explains_why_it_cannot(lstm: Path) -> None:
    code, errors, _ = run("train", "--resume", lstm)
    assert code == 4
    assert "an imported model cannot be resumed" in errors
    assert f"ptblm train --init {last_checkpoint(lstm)} --data TEXT" in errors


def test_init_starts_from_the_imported_model(lstm: Path, small_corpus: Path) -> None:
    code, errors, _ = run("train", "--init", lstm, "--run-dir", lstm.parent / "new", *FAST[2:])
    assert code == 2
    assert "hint: pass --data" in errors
    options = ["--data", small_corpus, "--run-dir", lstm.parent / "new", *FAST[2:]]
    slow = ["--set", "training.learning_rate=1e-9"]
    code, errors, _ = run("train", "--init", lstm, *options, *slow)
    assert code == 0, errors
    before, after = (load_checkpoint(last_checkpoint(path)) for path in (lstm, lstm.parent / "new"))
    for name, tensor in before.model.items():
        torch.testing.assert_close(after.model[name], tensor, rtol=0, atol=1e-6)
    assert after.imported_from is None


def test_existing_directory_needs_overwrite(lstm: Path, vocabulary: Path) -> None:
    arguments = ["import", lstm.parent / "model.pt", "--vocab", vocabulary, "-o", lstm]
    code, errors, _ = run(*arguments)
    assert code == 2
    assert "the run directory is not empty" in errors
    assert run(*arguments, "--overwrite")[0] == 0


def test_tied_model_is_imported_as_tied(in_directory: Path, small_corpus: Path) -> None:
    expected = save(in_directory, *CASES[4][1:], ids_of(small_corpus / "test.txt"))
    code, errors, _ = run("import", "model.pt", "--vocab-from", "corpus", "-o", "run")
    assert code == 0
    assert "embedding and softmax share their weights, as model.tie_embeddings" in errors
    checkpoint = load_checkpoint(last_checkpoint(Path("run")))
    assert checkpoint.config["model"]["tie_embeddings"] is True
    assert "head.weight" not in checkpoint.model
    code, errors, output = run("eval", "run", "--split", "test", "--json")
    assert code == 0, errors
    assert json.loads(output)["perplexity"] == pytest.approx(expected, rel=1e-5)
    code, errors, _ = run("checkpoint", "verify", "run")
    assert code == 0, errors


def test_equal_but_separate_weights_are_not_tied(in_directory: Path, small_corpus: Path) -> None:
    def separate(model: Any, module: Any) -> Any:
        return {name: each.clone() for name, each in model.state_dict().items()}

    save(in_directory, CASES[4][1], separate, {}, ids_of(small_corpus / "test.txt"))
    code, errors, _ = run("import", "model.pt", "--vocab-from", "corpus", "-o", "run")
    assert code == 0, errors
    model = load_checkpoint(last_checkpoint(Path("run"))).model
    assert torch.equal(model["head.weight"], model["embedding.weight"])


def test_other_spellings_of_special_tokens(
    in_directory: Path, small_corpus: Path, vocabulary: Path
) -> None:
    save(in_directory, *CASES[0][1:], ids_of(small_corpus / "test.txt"))
    vocabulary.write_text(vocabulary.read_text().replace("<eos>", "</s>").replace("<unk>", "UNK"))
    code, errors, _ = run("import", "model.pt", "--vocab", vocabulary, "-o", "run")
    assert code == 0
    assert "note: </s> of the vocabulary is <eos> in ptblm" in errors
    assert "note: UNK of the vocabulary is <unk> in ptblm" in errors
    assert load_checkpoint(last_checkpoint(Path("run"))).vocabulary["tokens"] == WORDS
    Path("text").write_text("the UNK ran\nzebra\n")
    code, errors, output = run("eval", "run", "--text", "text", "--json")
    assert code == 0, errors
    assert json.loads(output)["unknown_words"] == 1


def test_vocabulary_without_unk_is_closed(
    in_directory: Path, small_corpus: Path, vocabulary: Path
) -> None:
    save(in_directory, *CASES[0][1:], ids_of(small_corpus / "test.txt"))
    vocabulary.write_text(vocabulary.read_text().replace("<unk>", "cow"))
    code, errors, _ = run("import", "model.pt", "--vocab", vocabulary, "-o", "run")
    assert code == 0
    assert "the vocabulary has no <unk>" in errors
    Path("text").write_text("the cat sat\n")
    assert run("eval", "run", "--text", "text")[0] == 0
    Path("text").write_text("the zebra sat\n")
    code, errors, _ = run("eval", "run", "--text", "text")
    assert (code, "'zebra' is not in the vocabulary" in errors) == (3, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the\ncat\n", "the vocabulary has 2 words, but the model has 10"),
        ("", "the vocabulary is empty"),
        ("\n".join(WORDS[:9]) + "\nthe\n", "the vocabulary contains 'the' 2 times"),
        ("\n".join(WORDS[:9]) + "\n\ncat\n", "line 10 of the vocabulary is empty"),
        ("the 12\n" + "\n".join(WORDS[1:]), "line 1 of the vocabulary is not one word"),
        ("\n".join(WORDS).replace("<eos>", "end"), "contains no end of a line"),
    ],
)
def test_unsuitable_vocabularies(
    content: str, message: str, in_directory: Path, small_corpus: Path, vocabulary: Path
) -> None:
    save(in_directory, *CASES[0][1:], ids_of(small_corpus / "test.txt"))
    vocabulary.write_text(content)
    code, errors, _ = run("import", "model.pt", "--vocab", vocabulary, "-o", "run")
    assert code == 3, errors
    assert message in errors
    assert not Path("run").exists()


def test_the_vocabulary_has_to_be_named_once(lstm: Path, vocabulary: Path) -> None:
    model = lstm.parent / "model.pt"
    for options in ([], ["--vocab", vocabulary, "--vocab-from", "corpus"]):
        code, errors, _ = run("import", model, *options)
        assert (code, "hint: pass --vocab" in errors) == (2, True)


def test_adaptive_softmax_is_rejected(in_directory: Path, small_corpus: Path) -> None:
    with program(in_directory) as module:
        torch.save([awd(module), module.awd.SplitCrossEntropyLoss(3)], "model.pt")
    code, errors, _ = run("import", "model.pt", "--vocab-from", "corpus")
    assert (code, "it has an adaptive softmax" in errors) == (4, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.weight": torch.zeros(10, 5)}, "decoder.weight has the shape [10, 5], not"),
        ({"encoder.weight": torch.zeros(3)}, "encoder.weight has the shape [3]"),
        ({"rnn.weight_ih_l1": None}, "layer 1 has no weight_ih"),
        ({"rnn.weight_ih_l0_reverse": torch.zeros(3, 3)}, "it has a parameter"),
        (
            {"rnn.weight_hh_l1": torch.zeros(24, 7)},
            "decoder.weight has the shape [10, 6], not [10, 7]",
        ),
        ({"rnn.weight_hh_l0": torch.zeros(24, 7)}, "rnn.weight_ih_l1 has the shape [24, 6], not"),
        (
            {name: torch.zeros(36, 6) for name in MATRICES} | ROWS,
            "not those of nn.LSTM, nn.GRU or nn.RNN",
        ),
        ({"encoder.weight": torch.zeros(10, 5, dtype=torch.int64)}, "contains torch.int64"),
        ({"decoder.bias": torch.full((10,), torch.nan)}, "values that are not finite"),
        (
            {"decoder.bias": torch.full((10,), 1e300, dtype=torch.float64)},
            "values that are not finite",
        ),
    ],
)
def test_other_models_are_rejected(
    change: dict[str, Any], message: str, in_directory: Path, small_corpus: Path
) -> None:
    with program(in_directory) as module:
        state = {**example(module, "LSTM").state_dict(), **change}
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, "model.pt")
    code, errors, _ = run("import", "model.pt", "--vocab-from", "corpus", "-o", "run")
    assert (code, message in errors) == (4, True), errors
    assert not Path("run").exists()


def test_a_simple_rnn_without_its_activation_is_noted(
    in_directory: Path, small_corpus: Path
) -> None:
    with program(in_directory) as module:
        torch.save(example(module, "RNN_TANH").state_dict(), "model.pt")
    code, errors, _ = run("import", "model.pt", "--vocab-from", "corpus")
    assert code == 0
    assert "does not tell the activation" in errors


def test_files_of_other_kinds(in_directory: Path, lstm: Path, vocabulary: Path) -> None:
    Path("text.txt").write_text("the cat sat on the mat\n")
    Path("empty.pt").touch()
    os.mkfifo("pipe.pt")
    Path("model.ckpt.index").write_bytes(b"\0" * 100)
    Path("keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    cases = {
        "missing.pt": "no such file",
        "text.txt": "not a file that torch.save wrote",
        "empty.pt": "the file is empty",
        "pipe.pt": "not a regular file",
        "model.ckpt.index": "a TensorFlow file",
        "keras.h5": "an HDF5 file",
        str(lstm): "a run directory of ptblm, which needs no import",
        str(last_checkpoint(lstm)): "a checkpoint of ptblm, which needs no import",
        "program": "a directory, not a file",
    }
    for name, message in cases.items():
        code, errors, _ = run("import", name, "--vocab", vocabulary)
        assert (code, message in errors) == (4, True), errors
        assert "hint:" in errors
