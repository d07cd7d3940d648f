"""Damaged, edited or unusual files of a run directory."""

import dataclasses
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from ptblm.checkpoint.document import FORMAT
from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.config.loading import load_config
from ptblm.errors import CheckpointError, UsageError
from ptblm.run.directory import RunDirectory
from ptblm.run.resume import has_results
from ptblm.run.train import train
from tests.conftest import Ptblm
from tests.run.helpers import (
    contents,
    flip_bit,
    last_checkpoint,
    options,
    resume,
    tiny,
    tiny_config,
)

# --- checkpoints ---


def test_damaged_last_falls_back_to_newest_usable(run: Path, ptblm: Ptblm) -> None:
    last, best = last_checkpoint(run), run / "checkpoints" / "best.safetensors"
    numbered = run / "checkpoints" / "step-000000099.safetensors"
    save_checkpoint(numbered, load_checkpoint(best))
    older = load_checkpoint(best)
    older.train_state["step"] = older.train_state["history"][0]["step"] = 1
    save_checkpoint(best, older)
    flip_bit(last)
    damaged = last.read_bytes()
    verified = ptblm("checkpoint", "verify", run)
    assert verified.returncode == 4
    lines = {line.split(": ")[0]: line.split(": ")[1][:4] for line in verified.stdout.splitlines()}
    assert lines == {str(best): "good", str(last): "bad,", str(numbered): "good"}
    result = ptblm("train", "--resume", run)
    assert result.returncode == 0, result.stderr
    assert f"warning: {last} cannot be used (damaged" in result.stderr
    assert f"resuming from {numbered}" in result.stderr
    assert ptblm("checkpoint", "verify", last).returncode == 0
    assert last.with_name("last.safetensors.bad").read_bytes() == damaged


def test_newer_format_is_not_treated_as_damage(run: Path) -> None:
    """An older ptblm must not resume from an older checkpoint and overwrite the newer one."""
    last = last_checkpoint(run)
    save_checkpoint(last, dataclasses.replace(load_checkpoint(last), format=FORMAT + 1))
    before = last.read_bytes()
    with pytest.raises(CheckpointError, match=f"its format is {FORMAT + 1}") as caught:
        resume(run)
    assert caught.value.exit_code == 4
    assert last.read_bytes() == before


def test_without_a_usable_checkpoint_nothing_is_written(run: Path, ptblm: Ptblm) -> None:
    for path in (run / "checkpoints").iterdir():
        flip_bit(path)
    before = contents(run)
    result = ptblm("train", *options(tiny()), "--resume", "auto", "--run-dir", run)
    assert result.returncode == 4
    assert "digest does not match" in result.stderr
    assert "verify" in result.stderr
    with pytest.raises(CheckpointError, match="digest does not match"):
        resume(run)
    assert contents(run) == before


def test_results_without_checkpoints_are_kept(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    before = contents(run)
    with pytest.raises(CheckpointError, match="has results but no checkpoint") as caught:
        train(tiny_config(), run, resume="auto")
    assert caught.value.exit_code == 4
    assert contents(run) == before


# --- metrics.jsonl and links ---


def test_truncated_metrics_are_repaired(run: Path, log: pytest.LogCaptureFixture) -> None:
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:200])
    resume(run, "training.epochs=2")
    assert len(log.messages) == 1
    assert "bytes shorter than at the last checkpoint" in log.messages[0]
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl"])
def test_links_are_not_followed(name: str, run: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("content")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(target)
    with pytest.raises(UsageError, match="link") as caught:
        resume(run)
    assert caught.value.exit_code == 2
    assert target.read_text() == "content"


def test_read_only_directory_is_a_usage_error(run: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can write to any directory")
    run.chmod(0o500)
    try:
        with pytest.raises(UsageError, match="cannot write"):
            resume(run)
    finally:
        run.chmod(0o700)


def test_metrics_without_newlines_take_no_memory(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.metrics.touch()
    os.truncate(directory.metrics, 2**30)
    tracemalloc.start()
    try:
        assert not has_results(directory)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


# --- environment.json ---


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"5",
        b"null",
        b'{"resumed": 5}',
        b'{"resumed": "once"}',
        b'{"resumed": {}}',
        b'{"versions": 5}',
        b"not JSON",
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
    ids=range(11),
)
def test_malformed_environment_file_is_replaced(content: bytes, run: Path) -> None:
    path = run / "environment.json"
    path.write_bytes(content)
    resume(run)
    environment = json.loads(path.read_text())
    assert len(environment["resumed"]) == 1


def test_every_resumption_is_recorded(run: Path) -> None:
    before = json.loads((run / "environment.json").read_text())
    for count in (1, 2):
        train(lambda config: config, run, resume="must", command=["ptblm", str(count)])
        environment = json.loads((run / "environment.json").read_text())
        resumed = environment.pop("resumed")
        assert [entry["command"][1] for entry in resumed] == ["1", "2"][:count]
        assert environment == before


# --- config.yaml ---


def test_edited_config_file_has_no_effect(run: Path, log: pytest.LogCaptureFixture) -> None:
    path = run / "config.yaml"
    written = path.read_text()
    for edited, edit in [
        (written.replace("epochs: 1", "epochs: 7"), "(training.epochs=7)"),
        ("[", "(other text)"),
    ]:
        log.clear()
        path.write_text(edited)
        resume(run)
        assert len(log.messages) == 1
        assert f"{path} differs from the config in the checkpoint {edit}" in log.messages[0]
        assert "--set" in log.messages[0]
        assert path.read_text() == written
        assert load_checkpoint(last_checkpoint(run)).trained() == (1, 39)


def test_equivalent_config_file_is_not_touched(run: Path, log: pytest.LogCaptureFixture) -> None:
    path = run / "config.yaml"
    commented = "# my best run\n" + path.read_text()
    path.write_text(commented)
    resume(run)
    assert log.messages == []
    assert path.read_text() == commented
    # --set changes the config, so the file is written again without the comment.
    resume(run, "run.log_every=7")
    assert len(log.messages) == 1
    assert "config.yaml differs from the config in the checkpoint (other text)" in log.messages[0]
    assert load_config(str(path)).run.log_every == 7
    log.clear()
    path.unlink()
    resume(run, "run.log_every=8")
    assert log.messages == []
    assert load_config(str(path)).run.log_every == 8
