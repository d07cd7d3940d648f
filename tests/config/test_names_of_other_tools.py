"""Settings of other tools: the right answer, or none, but never the nearest name."""

import itertools
import re
from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.config.names_of_other_tools import EXPLAINED, NOTES, OPTIONS, RENAMED
from ptblm.config.schema import SECTIONS, VARIANT_KEYS
from ptblm.config.unknown_keys import closest
from ptblm.config.yaml_document import MAX_PROBLEMS
from ptblm.errors import ConfigError

KEYS = {f"{section}.{key}" for section, keys in SECTIONS.items() for key in keys} | {
    f"{'.'.join(map(str, path))}.{option}"
    for path, variants in VARIANT_KEYS.items()
    for options in variants.options.values()
    for option in options
}


def problems(path: Path, text: str) -> list[str]:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    return caught.value.what.replace(str(path), "my.yaml").splitlines()


def test_table_names_existing_keys_and_options() -> None:
    assert set(RENAMED) <= KEYS
    assert set(NOTES) <= set(RENAMED)
    for sentence in EXPLAINED:
        for key in re.findall(r"'((?:data|model|training|run)\.[a-z_.]+\d?)", sentence):
            assert key in KEYS, sentence


@pytest.mark.parametrize("table", [RENAMED, OPTIONS, EXPLAINED], ids=["keys", "options", "text"])
def test_each_name_has_one_answer(table: dict[str, str]) -> None:
    names = list(itertools.chain(*(text.split() for text in table.values())))
    assert len(names) == len(set(names))
    assert not {key.rpartition(".")[2] for key in KEYS} & (
        set(names) - {"patience", "early_stopping", "beta", "output"}
    )


# Arguments of word language models in PyTorch, written into sections.
PYTORCH = """\
data: {path: sample}
model: {model: LSTM, emsize: 64, nhid: 64, nlayers: 2, tied: true, dropout: 0.2}
training: {lr: 20, clip: 0.25, epochs: 2, batch_size: 20, bptt: 35, log_interval: 200, cuda: false}
"""
# Arguments of character-level models in Torch.
CHARACTERS = """\
data: {data_dir: sample, train_frac: 0.9}
model: {rnn_size: 64, num_layers: 2}
training: {decay_rate: 0.95, seq_length: 50, max_epochs: 2, grad_clip: 5, eval_val_every: 1000}
run: {gpuid: -1, print_every: 1, checkpoint_dir: cv, init_from: x.t7}
"""
# Keras, fairseq and others.
OTHERS = """\
data: {min_count: 2, lowercase: true}
model: {units: 64, rnn_type: GRU, bidirectional: true, recurrent_dropout: 0.1}
training: {wdecay: 1e-6, nonmono: 5, steps: 10, shuffle: true, clipnorm: 1, tokens-per-sample: 9}
"""
# Options for the batches of a text.
BATCHES = "training: {partial_shuffle: true, random_bptt: true, drop_state_probability: 0.01}\n"


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        (
            PYTORCH,
            {
                "model.model": "'model.cell'",
                "model.emsize": "'model.embedding_size'",
                "model.nhid": "'model.hidden_size'",
                "model.nlayers": "'model.num_layers'",
                "model.tied": "'model.tie_embeddings'",
                "training.lr": "divide the SGD rate of a mean loss by num_steps",
                "training.clip": "'training.max_grad_norm' (the gradient is that of the loss",
                "training.bptt": "'training.num_steps'",
                "training.log_interval": "'run.log_every'",
                "training.cuda": "'run.device'",
            },
        ),
        (
            CHARACTERS,
            {
                "data.data_dir": "'data.path'",
                "data.train_frac": "not available in ptblm",
                "model.rnn_size": "'model.hidden_size'",
                "training.decay_rate": "'training.optimizer.decay' (optimizer rmsprop)",
                "training.seq_length": "'training.num_steps'",
                "training.max_epochs": "'training.epochs'",
                "training.grad_clip": "'training.max_grad_norm'",
                "training.eval_val_every": "not available in ptblm",
                "run.gpuid": "'run.device'",
                "run.print_every": "'run.log_every'",
                "run.checkpoint_dir": "the option --run-dir",
                "run.init_from": "the option --init",
            },
        ),
        (
            OTHERS,
            {
                "data.min_count": "it belongs in 'data.vocabulary'",
                "data.lowercase": "not available in ptblm",
                "model.units": "'model.hidden_size'",
                "model.rnn_type": "'model.cell'",
                "model.bidirectional": "not available in ptblm",
                "model.recurrent_dropout": "use 'model.dropout.recurrent_state'",
                "training.wdecay": "'training.weight_decay' (it applies to the loss summed over",
                "training.nonmono": "'training.average.patience' (average nt)",
                "training.steps": "not available in ptblm; use 'training.epochs'",
                "training.shuffle": "not available in ptblm",
                "training.clipnorm": "'training.max_grad_norm'",
                "training.tokens-per-sample": "'training.num_steps'",
            },
        ),
        (
            BATCHES,
            {
                "training.partial_shuffle": "'training.streams' (rotated)",
                "training.random_bptt": "'training.random_num_steps'",
                "training.drop_state_probability": "'training.drop_state'",
            },
        ),
    ],
    ids=["pytorch", "characters", "others", "batches"],
)
def test_configs_of_other_tools_are_answered(
    tmp_path: Path, text: str, answers: dict[str, str]
) -> None:
    found = {line.split(": ")[1]: line for line in problems(tmp_path / "my.yaml", text)}
    assert found.keys() == answers.keys()
    for key, answer in answers.items():
        assert answer in found[key]
        assert "did you mean" not in found[key]
        assert "the keys here are" not in found[key]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("hiden_size", "hidden_size"),
        ("hidden_sizes", "hidden_size"),
        ("learnign_rate", "learning_rate"),
        ("num_step", "num_steps"),
        ("epoch", "epochs"),
        ("seeed", "seed"),
        ("steps", None),
        ("shuffle", None),
        ("l2_penalty", None),
        ("eval_val_every", None),
        ("see", "seed"),
        ("se", None),
    ],
)
def test_only_misspellings_are_corrected(typed: str, meant: str | None) -> None:
    assert closest(typed, [key.rpartition(".")[2] for key in KEYS]) == meant


def test_keys_of_a_section_are_listed_once(tmp_path: Path) -> None:
    lines = problems(tmp_path / "my.yaml", "training: {aaaa: 1, bbbb: 2, cccc: 3}\nmodel: {d: 4}\n")
    assert sum("batch_size" in line for line in lines) == 1
    assert sum("hidden_size" in line for line in lines) == 1
    assert lines[-1].endswith("training.cccc: unknown key")


def test_many_unknown_keys_are_counted(tmp_path: Path) -> None:
    keys = "".join(f"  key{number}: 1\n" for number in range(5000))
    lines = problems(tmp_path / "my.yaml", f"training:\n{keys}")
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1] == f"and {5000 - MAX_PROBLEMS:,} more problems"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.early_stopping=3", "expected a section of keys (patience), got 3"),
        ("run.checkpoint_every=5", "expected '5 minutes' or '200 steps', got 5"),
        ("run.tensorboard=yes", "expected true or false, got 'yes'"),
        ("run.device=0", "expected auto, cpu, cuda, cuda:N or mps, got 0"),
        ("model.hidden_size=abc", "expected a whole number, got 'abc'"),
        ("model.cell=:", "--set model.cell=:: ':' is not a valid YAML value"),
        ("training.epochs=[1", "--set training.epochs=[1: '[1' is not a valid YAML value"),
        ("training.optimizer=radam", "nadam, muon or rmsprop, got 'radam'"),
        (
            "training.optimizer=asgd",
            "got 'asgd'; use 'training.average' (ema, or for averaged SGD tail or nt with the "
            "optimizer sgd)",
        ),
    ],
)
def test_values_are_explained_in_plain_words(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("small", [override])
    assert caught.value.what.endswith(message)


def test_second_document_is_explained(tmp_path: Path) -> None:
    (line,) = problems(tmp_path / "my.yaml", "model: {num_layers: 1}\n---\nmodel: {}\n")
    assert line == "my.yaml:2:1: a config is one YAML document, and a second one starts here"
