"""Usage errors: options of other tools, misspelled options, arguments without an option."""

import errno
import shlex
from pathlib import Path

import pytest

from tests.in_process import assert_clear, ptblm


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("train --epochs 3", "pass --set training.epochs=3"),
        ("train --lr 0.1", "pass --set training.learning_rate=0.1"),
        ("train --batch_size 20", "pass --set training.batch_size=20"),
        ("train --hidden-size 200", "pass --set model.hidden_size=200"),
        ("train --nhid=200", "pass --set model.hidden_size=200"),
        ("train -rnn_size 128", "pass --set model.hidden_size=128"),
        ("train -clip 5", "pass --set training.max_grad_norm=5"),
        ("train --clip", "pass --set training.max_grad_norm=VALUE"),
        ("train --cuda", "pass --device cuda"),
        ("train --gpu 1", "pass --device cuda:1"),
        ("train --gpuid -1", "pass --device cpu"),
        ("train --no-cuda", "pass --device cpu"),
        ("train --fp16", "pass --precision fp16"),
        ("train --model LSTM", "pass --set model.cell=lstm"),
        ("train --keep_prob 0.35", "pass --set model.dropout=0.65"),
        ("train --save_every 1000", "pass --set 'run.checkpoint_every=1000 steps'"),
        ("train --save model.pt", "pass --run-dir model"),
        ("train --data_dir 'my data'", "pass --data 'my data'"),
        ("train --tensorboard", "pass --set run.tensorboard=true"),
        (
            "train --beta1 0.5",
            "pass --set training.optimizer=adam --set training.optimizer.beta1=0.5",
        ),
        ("train --epochs 3 --cuda", "pass --set training.epochs=3 --device cuda"),
        ("train --sed 3", "pass --seed 3"),
        ("train --gpus 2", "pass --processes 2"),
        ("train --local-rank=0", "see `ptblm train --help`"),
        ("train --temperature 0.8", "see `ptblm train --help`"),
        ("tune-eval runs/x --nhid 200", "see `ptblm tune-eval --help`"),
        ("train --model.hidden_size 5", "pass --set model.hidden_size=5"),
        ("config show small --nlayers 3", "pass --set model.num_layers=3"),
        ("eval runs/x --cuda", "pass --device cuda"),
        ("eval runs/x --batch_size 3", "see `ptblm eval --help`"),
        ("train --shuffle", "see `ptblm train --help`"),
        ("--epochs 3", "pass ptblm train --set training.epochs=3"),
        ("train small", "did you mean --config small?"),
        ("train sample", "did you mean --data sample?"),
        ("train my.yaml", "did you mean --config my.yaml?"),
        ("train model.num_layers=3", "did you mean --set model.num_layers=3?"),
        ("train nothing", "see `ptblm train --help`"),
    ],
)
@pytest.mark.usefixtures("in_directory")
def test_hint_names_the_option_of_ptblm(typed: str, hint: str) -> None:
    code, errors, output = ptblm(*shlex.split(typed))
    assert (code, output) == (2, "")
    assert errors.splitlines()[-1] == f"  hint: {hint}"
    assert errors.startswith("error: ")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("train --seed abc", "error: --seed: expected a whole number, got 'abc'"),
        ("train --tokenizer letter", "error: --tokenizer: 'letter' is not one of 'word', 'char'"),
        ("train --tied", "--tied; use 'model.tie_embeddings'"),
        ("train --decay 1", "--decay; it is a key of 'training.optimizer' (option of rmsprop) and"),
        ("train --run-dir=", "error: --run-dir: expected a path, got ''"),
        ("train --resume=", "error: --resume: expected a path, got ''"),
        ("train --config=", "error: --config: expected a name or a path, got ''"),
        ("eval ''", "error: CHECKPOINT|RUN_DIR: expected a path, got ''"),
        ("download-data --url=", "error: --url: expected a URL, got ''"),
        ("train --set training.epochs=10000000000", "1,000,000,000, got 10,000,000,000"),
        ("train --set data.path=10000", "data.path: expected a path, got 10000"),
        ("train --seed", "hint: see `ptblm train --help`"),
        ("checkpoint show x --help=3", "hint: see `ptblm checkpoint show --help`"),
        ("eval", "error: missing argument 'CHECKPOINT|RUN_DIR'"),
        ("trian", "error: no such command 'trian'. Did you mean 'train'?"),
        ("train --resume=AUTO", "did you mean --resume auto?"),
    ],
)
@pytest.mark.usefixtures("in_directory")
def test_message_is_in_plain_words(typed: str, message: str) -> None:
    code, errors, _ = ptblm(*shlex.split(typed))
    assert code == 2
    assert message in errors


@pytest.mark.parametrize(
    "command",
    [
        *("train --config", "train --data", "train --resume", "train --init", "train --run-dir"),
        *("train", "eval", "checkpoint show", "checkpoint verify"),
    ],
)
@pytest.mark.usefixtures("in_directory")
def test_path_that_is_too_long_is_not_a_bug(command: str) -> None:
    """Like a path without permission, which tests of the superuser cannot have."""
    code, errors, _ = ptblm(*command.split(), "a" * 300)
    assert_clear(code, errors, 2, 3, 4)
    assert code != 0


@pytest.mark.usefixtures("in_directory")
def test_all_unknown_options_are_explained_at_once() -> None:
    typed = "train --emsize 650 --tied --epochs 40 --dropout 0.5"
    code, errors, _ = ptblm(*typed.split())
    assert code == 2
    assert [line for line in errors.splitlines() if line.startswith("error: ")] == [
        "error: no such option: --emsize; use 'model.embedding_size'",
        "error: no such option: --tied; use 'model.tie_embeddings'",
        "error: no such option: --epochs",
        "error: no such option: --dropout",
    ]
    assert errors.splitlines()[-1] == (
        "  hint: pass --set model.embedding_size=650 --set model.tie_embeddings=true "
        "--set training.epochs=40 --set model.dropout=0.5"
    )


def test_paths_are_expanded(monkeypatch: pytest.MonkeyPatch, in_directory: Path) -> None:
    monkeypatch.setenv("HOME", str(in_directory / "home"))
    for typed, path in [
        ("train --resume=~/run", "home/run"),
        ("train --config=$HOME/c.yaml", "home/c.yaml"),
        ("eval ~/run", "home/run"),
        ("eval run/c.safetensors", "run/c.safetensors"),
        ("train --resume=run", "run"),
        ("checkpoint show ~/run", "home/run"),
    ]:
        code, errors, _ = ptblm(*typed.split())
        assert code in (2, 4)
        assert f"  at: {in_directory / path}\n" in errors


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (OSError(errno.EMFILE, "Too many open files"), ["raise the limit of open files"]),
        (OSError(errno.EACCES, "Permission denied", "x"), ["  at: x", "check the permissions"]),
        (OSError(errno.EINVAL, "Invalid argument", "x"), ["  at: x", "check the path"]),
        (MemoryError(), ["not enough memory"]),
        (ImportError("libx.so: failed to map segment from shared object"), ["not enough memory"]),
        (FileNotFoundError(errno.ENOENT, "No such file"), ["current directory no longer exists"]),
    ],
)
def test_error_of_the_system_is_not_a_bug(
    error: Exception, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last resort, for a call that no other handler covers."""

    def fail() -> None:
        raise error

    monkeypatch.setattr("ptblm.config.loading.shipped_configs", fail)
    code, errors, _ = ptblm("config", "list")
    assert_clear(code, errors, 2)
    assert code == 2
    assert all(line in errors for line in lines)
    assert "at: \n" not in errors


def test_deleted_current_directory_is_not_a_bug(in_directory: Path) -> None:
    in_directory.rmdir()
    for command in ("config show x.yaml", "train --config x.yaml", "eval x", "train --data x"):
        code, errors, _ = ptblm(*command.split())
        assert_clear(code, errors, 2, 3, 4)
        assert code != 0


@pytest.mark.parametrize("words", [["train", "--debug"], ["config", "list", "-q"], ["eval", "-v"]])
def test_option_before_the_command_is_not_one_of_the_command(words: list[str]) -> None:
    code, errors, _ = ptblm(*words)
    assert code == 2
    assert f"error: {words[-1]} belongs before the command" in errors
    assert f"`ptblm {words[-1]} {' '.join(words[:-1])} ...`" in errors
