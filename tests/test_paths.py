"""Expansion of `~` and variables in paths."""

from pathlib import Path

import pytest

from ptblm.paths import expand_path


def test_home_and_variables_are_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CORPORA", "/data")
    monkeypatch.delenv("NOTHING", raising=False)
    assert expand_path("~/a.txt") == tmp_path / "a.txt"
    assert expand_path("$HOME/a.txt") == expand_path("${HOME}/a.txt") == tmp_path / "a.txt"
    assert expand_path("$CORPORA/ptb") == Path("/data/ptb")
    assert expand_path("$NOTHING/x~") == Path("$NOTHING/x~")


@pytest.mark.usefixtures("in_directory")
def test_existing_path_is_not_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICE", "5")
    assert expand_path("a$PRICE") == Path("a5")
    Path("a$PRICE").touch()
    assert expand_path("a$PRICE") == Path("a$PRICE")
