"""Finds the train, valid and test files in a directory, under the names that corpora use."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

from ptblm.errors import DataError
from ptblm.files import os_errors
from ptblm.paths import shell_join

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# Names of the splits, in order of preference.
_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "valid": ("valid", "validation", "validate", "val", "dev", "devel", "development", "heldout"),
    "test": ("test", "testing", "tst", "eval"),
}
_SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names}
# A name such as `wiki.train.tokens`, `Train.txt`, `dev` or `train.txt.gz`. Formats such as CSV
# are not text.
_FILE = re.compile(
    r"(?P<prefix>(?:.*[._-])?)"
    rf"(?P<split>{'|'.join(_SPLIT_OF)})"
    r"(?P<suffix>(?:[._-](?:txt|text|data|tokens|tok|raw|en|lower|clean|processed))*)"
    r"(?P<compressed>(?:\.(?:gz|bz2|xz))?)",
    re.IGNORECASE,
)
_PACKED = {".zip", ".tar", ".tgz", ".tbz", ".txz", ".zst", ".7z", ".rar", ".lz4"}
_MAX_LISTED = 12
_MAX_DEPTH = 2

# The files of one corpus: a train, a valid and a test file, whose names have the same form.
Family = dict[Split, Path]


def split_files(directory: Path, prefixes: Sequence[str], splits: Iterable[Split]) -> Family:
    """Returns the files of the requested splits.

    The names of all files have the same form, such as `wiki.*.tokens`, so that two corpora are
    never mixed. If a directory contains several forms, the form `PREFIX*.txt` of the first prefix
    is preferred.

    Args:
        directory: the directory, see `corpus_directory`.
        prefixes: prefixes of preferred names, such as "ptb.".
        splits: the splits to find. A missing test split is not an error, unless it is the only
            requested split.

    Raises:
        DataError: if a split is missing, or several corpora are in the directory.
    """
    splits = list(splits)
    family = _family(directory, prefixes)
    for split in splits:
        if split not in family and (split != "test" or splits == ["test"]):
            raise _missing_error(directory, split, family)
    return {split: family[split] for split in splits if split in family}


def corpus_directory(directory: Path) -> Path:
    """Returns the directory itself or the only subdirectory with train, valid or test files.

    An unpacked archive often contains one directory, which contains the files.

    Raises:
        DataError: if several subdirectories contain such files, or the directory cannot be read.
    """
    level = [directory]
    for _ in range(_MAX_DEPTH + 1):
        # A file named `test` alone does not make a corpus of a subdirectory.
        found = [candidate for candidate in level if _has_corpus(candidate, directory)]
        if len(found) == 1:
            return found[0]
        if found:
            names = _listed([candidate.name for candidate in found])
            raise DataError(
                f"several directories contain a corpus: {names}",
                where=str(directory),
                hint=f"pass one of them, for example {_data_option(found[0])}",
            )
        level = [
            entry
            for parent in level
            for entry in _entries(parent)
            if os.path.isdir(entry) and os.access(entry, os.R_OK | os.X_OK)
        ]
    return directory


def _has_corpus(candidate: Path, directory: Path) -> bool:
    families = _families(candidate).values()
    return any(candidate == directory or "train" in family for family in families)


def _family(directory: Path, prefixes: Sequence[str]) -> Family:
    families = _families(directory)
    for prefix in prefixes:
        for (start, end), family in families.items():
            if (start, end) == (prefix, ".txt"):
                return family
    with_train = {form: family for form, family in families.items() if "train" in family}
    if len(with_train) <= 1:
        return next(iter((with_train or families).values()), {})
    # `train.txt` and `train.txt.raw` are the same text: the shortest name is the prepared text.
    starts = {start for start, _ in with_train}
    if len(starts) == 1:
        return with_train[min(with_train, key=lambda form: (len(form[1]), form[1]))]
    forms = _listed([f"{start}*{end}" for start, end in with_train])
    raise DataError(
        f"several corpora are in the directory: {forms}",
        where=str(directory),
        hint="move the files of one corpus to a separate directory",
    )


def _families(directory: Path) -> dict[tuple[str, str], Family]:
    """Returns the corpora of a directory by the form of their names: prefix and suffix."""
    families: dict[tuple[str, str], Family] = {}
    ranks: dict[Path, tuple[bool, int]] = {}
    for path in _entries(directory):
        match = _FILE.fullmatch(path.name)
        if match is None or not _is_file(path):
            continue
        name = match["split"].lower()
        split = _SPLIT_OF[name]
        # A file that is not compressed is preferred.
        ranks[path] = bool(match["compressed"]), _NAMES[split].index(name)
        family = families.setdefault((match["prefix"].lower(), match["suffix"].lower()), {})
        if split not in family or ranks[path] < ranks[family[split]]:
            family[split] = path
    return families


def _entries(directory: Path) -> list[Path]:
    with os_errors(DataError, where=directory):
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))


def _is_file(path: Path) -> bool:
    with os_errors(DataError, where=path):
        return path.is_file()


def _data_option(path: Path) -> str:
    """Returns the option that selects a corpus, quoted for a shell."""
    return shell_join(["--data", str(path)])


def _missing_error(directory: Path, split: Split, family: Family) -> DataError:
    """Returns the error for a missing split, which lists what the directory contains."""
    entries = _entries(directory)
    names = [path.name + ("/" if os.path.isdir(path) else "") for path in entries]
    found = f"the directory contains {_listed(names) or 'nothing'}"
    others = [path for path in entries if os.path.isfile(path) and path not in family.values()]
    broken = [path for path in entries if os.path.islink(path) and not os.path.exists(path)]
    special = [path for path in entries if _FILE.fullmatch(path.name) and _is_special(path)]
    packed = [path for path in others if path.suffix.lower() in _PACKED]
    if broken:
        found = f"{broken[0].name} is a link to a missing file"
        hint = "restore the file that the link names"
    elif special:
        found = f"{special[0].name} is a pipe, a socket or a device"
        hint = "replace it with a file; to read a pipe, pass its path, as in --data PIPE"
    elif packed:
        hint = f"unpack {packed[0].name} first"
    else:
        hint = f"name the file {_expected_name(split, family)}{_alternative(split, family, others)}"
    return DataError(f"the {split} split is missing; {found}", where=str(directory), hint=hint)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _is_special(path: Path) -> bool:
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _expected_name(split: Split, family: Family) -> str:
    """Returns the name of a missing file, which has the form of the other names."""
    sample = _FILE.fullmatch(next(iter(family.values())).name) if family else None
    return f"{split}.txt" if sample is None else f"{sample['prefix']}{split}{sample['suffix']}"


def _alternative(split: Split, family: Family, others: Sequence[Path]) -> str:
    """Returns what to do instead of naming the missing file, if anything."""
    if split == "test" and "valid" in family:
        return ", or pass --split valid"
    single = [family["train"]] if set(family) == {"train"} else [] if family else others
    if len(single) == 1:
        return f", or pass {_data_option(single[0])}, which is then split by position"
    if single:
        return ", or join the files with `cat` and pass --data FILE, which is split by position"
    return ""
