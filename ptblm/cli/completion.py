"""Completion of paths in the shell: configs, runs, checkpoints and texts, in any directory."""

import os.path
from collections.abc import Callable

from typer import _completion_shared

from ptblm.paths import expand_path

# Typer's script splits names with spaces, expands patterns in names, and ends directories with a
# space.
_BASH_SCRIPT = r"""
%(complete_func)s() {
    local IFS=$'\n'
    mapfile -t COMPREPLY < <(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" \
        %(autocomplete_var)s=complete_bash "$1")
    [[ "${COMPREPLY[*]}" == */* ]] && compopt -o filenames
    return 0
}

complete -o default -F %(complete_func)s %(prog_name)s
"""


def use_own_script() -> None:
    """Makes --install-completion and --show-completion use the script of ptblm for bash."""
    _completion_shared._completion_scripts["bash"] = _BASH_SCRIPT


def complete_config(incomplete: str) -> list[str]:
    """Completes names of shipped configs, and paths of YAML files."""
    from ptblm.config.loading import shipped_configs

    names = [name for name in shipped_configs() if name.startswith(incomplete)]
    return names + _paths(incomplete, lambda name: name.endswith((".yaml", ".yml")))


def complete_run(incomplete: str) -> list[str]:
    """Completes paths of run directories and checkpoints."""
    found = _paths(incomplete, _is_checkpoint, _is_run)
    if "runs/" in found:  # what is wanted is almost always in it
        found.remove("runs/")
        found += _paths("runs/", _is_checkpoint, _is_run) or ["runs/"]
    return found


def complete_cell(incomplete: str) -> list[str]:
    """Completes names of cells."""
    from ptblm.config.schema import VARIANT_KEYS

    names = VARIANT_KEYS["model", "cell"].options
    return [name for name in names if name.startswith(incomplete)]


def complete_corpus(incomplete: str) -> list[str]:
    """Completes names of corpora, and paths of files and directories."""
    from ptblm.corpus.datasets import DATASETS

    names = [name for name in (*DATASETS, "sample") if name.startswith(incomplete)]
    return names + complete_file(incomplete)


def complete_dataset(incomplete: str) -> list[str]:
    """Completes names of corpora that can be downloaded."""
    from ptblm.corpus.datasets import DATASETS

    return [name for name in DATASETS if name.startswith(incomplete)]


def complete_file(incomplete: str) -> list[str]:
    """Completes paths of files and directories."""
    return _paths(incomplete, lambda _: True)


def complete_directory(incomplete: str) -> list[str]:
    """Completes paths of directories."""
    return _paths(incomplete, lambda _: False)


def _is_checkpoint(name: str) -> bool:
    return name.endswith(".safetensors")


def _is_run(path: str) -> bool:
    """Returns whether a directory is a run, or is where new runs are created."""
    is_in_runs = os.path.basename(os.path.dirname(path)) == "runs"
    return is_in_runs or os.path.isdir(os.path.join(path, "checkpoints"))


def _paths(
    incomplete: str,
    is_offered: Callable[[str], bool],
    is_complete: Callable[[str], bool] = lambda _: False,
) -> list[str]:
    """Returns the paths that start with an incomplete path, as a shell would list them.

    A directory ends with a slash. What cannot be read is empty, because a message would appear in
    the line that is being typed. Names that are not printable are left out, and names with a
    backslash, because Typer's script for zsh would run commands in them.

    Args:
        incomplete: the incomplete path as typed.
        is_offered: returns whether a file of this name is offered.
        is_complete: returns whether the path of a directory is offered without a slash.
    """
    slash = incomplete.rfind("/") + 1
    parent, start = incomplete[:slash], incomplete[slash:]
    if "\\" in incomplete or not incomplete.isprintable():
        return []
    found = [f"{incomplete}/"] if start in (".", "..") or incomplete == "~" else []
    try:
        with os.scandir(expand_path(parent or ".")) as entries:
            for entry in entries:
                hidden = entry.name.startswith(".") and not start
                unsafe = not entry.name.isprintable() or "\\" in entry.name
                if hidden or unsafe or not entry.name.startswith(start):
                    continue
                if entry.is_dir():
                    end = "" if is_complete(entry.path) else "/"
                    found.append(f"{parent}{entry.name}{end}")
                elif is_offered(entry.name):
                    found.append(f"{parent}{entry.name}")
    except (OSError, ValueError):  # ValueError: a null character
        pass
    return sorted(found)
