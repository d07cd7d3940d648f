"""The picture of the README: progress bars, colors and special characters, size limit."""

import io
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import load_script

OUTPUT = "epoch 1:  50%\repoch 1: 100%\r\n\x1b[1mvalid\x1b[0m \x1b[32m<unk> & more\x1b[0m\n\n"


@pytest.fixture
def script() -> ModuleType:
    return load_script("terminal_picture")


def picture_of(script: ModuleType, path: Path, *arguments: str) -> list[str]:
    sys.argv = ["terminal_picture.py", str(path), *arguments]
    assert script.main() == 0
    texts = ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


def test_captured_output_is_drawn(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "stdin", io.StringIO(OUTPUT))
    path = tmp_path / "run.svg"
    lines = picture_of(script, path, "--title", "ptblm train")
    assert lines == ["$ ptblm train", "epoch 1: 100%", "valid <unk> & more"]
    svg = path.read_text()
    assert 'font-weight="bold">valid<' in svg
    assert f'fill="{script._COLORS[2]}">&lt;unk&gt; &amp; more<' in svg


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudoterminal")
def test_command_runs_in_a_terminal(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    code = "import sys; print(sys.stdout.isatty())"
    lines = picture_of(script, tmp_path / "run.svg", "--", sys.executable, "-c", code)
    assert lines[1:] == ["True"]


def test_large_pictures_are_rejected(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["terminal_picture.py", str(tmp_path / "run.svg")])
    monkeypatch.setattr(sys, "stdin", io.StringIO(("y" * 99 + "\n") * 200))
    assert script.main() == 1
    assert not (tmp_path / "run.svg").exists()
