"""The file of a plot: PNG, SVG or PDF, by the end of its name."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptblm.errors import UsageError
from ptblm.files import check_new_output, os_errors, replacing
from ptblm.reporting.plot import FORMS, Form, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_plot_file(path: Path, *, overwrite: bool) -> None:
    """Checks, before a plot is drawn, that it can be written to a file.

    Args:
        path: the file.
        overwrite: whether to replace the file if it exists.

    Raises:
        UsageError: if it has another format, exists, or cannot be created.
    """
    _form(path)
    check_new_output(path, "plot", overwrite=overwrite)


def write_plot(figure: "Figure", path: Path) -> None:
    """Writes a figure to a file, which is replaced.

    Raises:
        UsageError: if the file cannot be written.
    """
    with os_errors(UsageError, "--to: cannot be written", where=path):
        content = render(figure, _form(path))
        with replacing(path) as file:
            file.write(content)


def _form(path: Path) -> Form:
    for form in FORMS:
        if path.suffix.lower() == f".{form}":
            return form
    raise UsageError(f"--to: the name of a plot ends with .{', .'.join(FORMS)}", where=str(path))
