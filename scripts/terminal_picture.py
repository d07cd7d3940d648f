"""Turns what a terminal showed into the picture that the README shows.

tmux capture-pane -e -p | python scripts/terminal_picture.py docs/run.svg --title "ptblm train"
"""

import argparse
import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text


def main() -> None:
    """Reads text with ANSI colours from standard input, writes an SVG."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--title", default="ptblm")
    arguments = parser.parse_args()
    lines = [Text.from_ansi(line) for line in sys.stdin.read().rstrip().splitlines()]
    width = max(line.cell_len for line in lines)
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(line, no_wrap=True, crop=False)
    svg = console.export_svg(title=arguments.title, theme=MONOKAI)
    # No fonts are fetched from anywhere: the reader's own monospace one serves.
    start, end = svg.index("@font-face"), svg.rindex("@font-face")
    end = svg.index("}", end) + 1
    svg = (svg[:start] + svg[end:]).replace("Fira Code", "ui-monospace, Menlo, Consolas")
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)
    arguments.picture.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


if __name__ == "__main__":
    main()
