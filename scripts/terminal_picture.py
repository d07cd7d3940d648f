"""Renders the terminal output of a command as an SVG for the README.

    python scripts/terminal_picture.py docs/run.svg -- \
        ptblm train --config small --data sample --run-dir runs/picture --overwrite
    tmux capture-pane -e -p | python scripts/terminal_picture.py docs/run.svg --title "ptblm train"

The first form runs the command in a pseudoterminal and renders its output. The second form renders
captured output, including ANSI colors. Progress bars appear in their last state.
"""

import argparse
import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.color import ColorType
from rich.style import Style
from rich.text import Text

COLUMNS = 100
LARGEST_BYTES = 15_000
# In pixels. The width of a monospace character is 0.6 times the font size.
_CHARACTER, _LINE, _MARGIN = 8.4, 19, 16
# The picture has a background, so it is legible on light and dark pages.
_BACKGROUND, _FOREGROUND = "#1f2430", "#d9dee8"
_COLORS = ["#5c6773", "#f28779", "#a6cc70", "#ffd173", "#73b8ff", "#d4a5ff", "#7fd8d0", "#d9dee8"]


def run_in_terminal(command: list[str]) -> str:
    """Runs a command in a pseudoterminal and returns its output.

    Raises:
        subprocess.CalledProcessError: if the command fails.
    """
    import pty  # not available on Windows

    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:  # noqa: S603
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 65536):
                parts.append(part)
        except OSError:  # Linux reports the end of a pseudoterminal's output as an error
            pass
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return b"".join(parts).decode("utf-8")


def screen_lines(output: str) -> list[Text]:
    """Returns the final lines of the screen without trailing empty lines.

    Text after a carriage return replaces the line, as in progress bars. Cursor movements are
    ignored.
    """
    lines = []
    for line in re.sub(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]", "", output).split("\n"):
        states = [state for state in line.split("\r") if state.strip()]
        lines.append(Text.from_ansi(states[-1].rstrip() if states else ""))
    while lines and not lines[-1].plain:
        lines.pop()
    return lines


def _attributes(style: Style) -> str:
    found = ""
    if style.color and style.color.type == ColorType.STANDARD and style.color.number is not None:
        found += f' fill="{_COLORS[style.color.number % 8]}"'
    if style.bold:
        found += ' font-weight="bold"'
    if style.dim:
        found += ' opacity="0.7"'
    return found


def _spans(line: Text) -> str:
    """Returns the characters of a line as tspan elements, grouped by style."""
    parts, start = [], 0
    styles = [Style()] * len(line.plain)
    for span in line.spans:
        style = span.style if isinstance(span.style, Style) else Style.parse(span.style)
        for index in range(span.start, min(span.end, len(styles))):
            styles[index] += style
    for end in range(1, len(styles) + 1):
        if end == len(styles) or _attributes(styles[end]) != _attributes(styles[start]):
            text, attributes = html.escape(line.plain[start:end]), _attributes(styles[start])
            parts.append(f"<tspan{attributes}>{text}</tspan>" if attributes else text)
            start = end
    return "".join(parts)


def draw(lines: list[Text], title: str) -> str:
    """Returns an SVG of a terminal window."""
    columns = max(len(title) + 8, *(line.cell_len for line in lines))
    width = round(columns * _CHARACTER) + 2 * _MARGIN
    height = (len(lines) + 2) * _LINE + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{html.escape(title)}">',
        f'<rect width="{width}" height="{height}" rx="8" fill="{_BACKGROUND}"/>',
        f'<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" '
        f'fill="{_FOREGROUND}" xml:space="preserve" style="white-space: pre">',
        f'<text x="{_MARGIN}" y="{_MARGIN + 12}" fill="{_COLORS[2]}">$ {html.escape(title)}</text>',
    ]
    for index, line in enumerate(lines):
        if line.plain:
            y = _MARGIN + 12 + (index + 2) * _LINE
            parts.append(f'<text x="{_MARGIN}" y="{y}">{_spans(line)}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def main() -> int:
    """Runs the command or reads standard input, and writes the SVG."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("picture", type=Path, help="SVG file to write")
    parser.add_argument("--title", help="command line to show; default: the command")
    parser.add_argument("command", nargs="*", help="command to run; default: read standard input")
    arguments = parser.parse_args()
    command: list[str] = arguments.command
    lines = screen_lines(run_in_terminal(command) if command else sys.stdin.read())
    svg = draw(lines, arguments.title or shlex.join(command) or "ptblm")
    size = len(svg.encode("utf-8"))
    if size > LARGEST_BYTES:
        print(
            f"error: the picture has {size:,} bytes, more than {LARGEST_BYTES:,}", file=sys.stderr
        )
        return 1
    arguments.picture.write_text(svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
