"""Errors of files that are no YAML text; see `ptblm.config.yaml_document.read_text`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ptblm.config.evaluation_loading import SettingsOptions, load_settings
from ptblm.config.loading import load_config
from ptblm.config.sweep_loading import load_sweep
from ptblm.errors import ConfigError

LOADERS: dict[str, Callable[[Path], object]] = {
    "config": lambda path: load_config(str(path)),
    "settings": lambda path: load_settings(SettingsOptions(file=path)),
    "sweep": load_sweep,
}


@pytest.mark.parametrize("what", LOADERS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#" * 1_000_001, "{path}: too large for a {what} file (more than 1,000,000 bytes)"),
        (b'\x30\0\0\0\0\0\0\0{"a": 1}', "{path}: a checkpoint, not a {what} file"),
        (b"# one\n# caf\xe9\n", "{path}:2: not UTF-8 text"),
    ],
    ids=["too large", "checkpoint", "not UTF-8"],
)
def test_file_that_is_no_text(content: bytes, message: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        LOADERS[what](path)
    assert str(caught.value).startswith(message.format(path=path, what=what)), str(caught.value)
    assert caught.value.hint
