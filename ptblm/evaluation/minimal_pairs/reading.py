"""Reads a file of minimal pairs, whose format is recognized by its content."""

from pathlib import Path

from ptblm.corpus.encodings import MARK_SIZE, encoding_by_mark
from ptblm.corpus.source import read_file
from ptblm.errors import DataError, UsageError
from ptblm.evaluation.minimal_pairs.agreement import SUFFIXES, AgreementText, read_agreement
from ptblm.evaluation.minimal_pairs.blimp import read_blimp
from ptblm.evaluation.minimal_pairs.pair import Pair
from ptblm.evaluation.minimal_pairs.syntaxgym import Suite, read_suite
from ptblm.evaluation.minimal_pairs.table import Columns, read_table
from ptblm.json_files import JsonError, parse_json

# Bounds of the memory of a file, which are far above the 28 MB and 67,000 pairs of BLiMP.
MAX_BYTES, MAX_LINES = 64_000_000, 1_000_000

Material = list[Pair] | AgreementText | Suite


def read_minimal_pairs(path: Path, columns: Columns | None = None) -> Material:
    """Returns the content of a file.

    Args:
        path: the file: JSON lines of BLiMP or BabyLM, a TSV or CSV table, one of the three files of
            Gulordava et al. (2018), whose other two are next to it, or a suite of SyntaxGym.
        columns: the columns of a table.

    Raises:
        DataError: if a file cannot be read, is empty, or is in none of these formats.
        UsageError: if columns are chosen, and the file is not a table.
    """
    text, stem = _read(path), path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    lines, columns = text.split("\n"), columns or Columns()
    is_table = not text.startswith(("{", "[")) and ("\t" in lines[0] or "," in lines[0])
    material = _aligned_or_json(path, text, lines, stem)
    if material is None and is_table:
        return read_table(lines, str(path), stem, columns)
    if material is None:
        raise DataError(
            "not a file of minimal pairs",
            where=str(path),
            hint="pass JSON lines with sentence_good and sentence_bad, a TSV or CSV table with a "
            "header, X.text with X.eval and X.gold next to it, or a suite of SyntaxGym",
        )
    if columns != Columns():
        raise UsageError(
            "--good, --bad and --by are columns of a table, and the file is not a table",
            where=str(path),
            hint="omit them, or evaluate the tables separately",
        )
    return material


def _aligned_or_json(path: Path, text: str, lines: list[str], stem: str) -> Material | None:
    """Returns the content of a file that is not a table; None for a table or another file."""
    if text.startswith("{"):
        # The start of a line of BLiMP, even if the rest is damaged.
        if any(name in lines[0] for name in ('"sentence_good"', '"sentence_bad"')):
            return read_blimp(lines, str(path), stem)
        return _suite(text, str(path))
    others = [path.with_suffix(suffix) for suffix in SUFFIXES]
    if path.suffix in SUFFIXES or any(other.exists() for other in others[1:]):
        contents = [_read(other).split("\n") for other in others]
        return read_agreement(contents, str(path.with_suffix("")), stem)
    return None


def _suite(text: str, file: str) -> Suite:
    try:
        content = parse_json(text)
    except JsonError as error:
        raise DataError(str(error), where=file) from None
    if "items" not in content:
        raise DataError(
            "the JSON is neither a line with sentence_good and sentence_bad nor a suite with items",
            where=file,
        )
    return read_suite(content, file)


def _read(path: Path) -> str:
    """Returns the text of a file with newlines as in Unix, without those at its end."""
    source = read_file(path)
    if source.size > MAX_BYTES:
        raise DataError(
            f"the file has {source.size:,} bytes, more than {MAX_BYTES:,}",
            where=str(path),
            hint="divide it into smaller files, and pass all of them",
        )
    content = source.read()
    encoding = encoding_by_mark(content[:MARK_SIZE]) or "utf-8"
    try:
        text = content.decode(encoding).removeprefix("\ufeff")  # the byte order mark
    except UnicodeDecodeError as error:
        raise DataError(
            f"not {encoding.upper()} text: {error.reason}",
            where=f"{path}, byte {error.start + 1:,}",
            hint="convert it, for example with `iconv -f ISO-8859-1 -t UTF-8` if it is Latin-1",
        ) from None
    text = text.replace("\r\n", "\n").rstrip("\n")
    if text.count("\n") >= MAX_LINES:
        raise DataError(
            f"the file has more than {MAX_LINES:,} lines",
            where=str(path),
            hint="divide it into smaller files, and pass all of them",
        )
    if not text.strip():
        raise DataError("the file is empty", where=str(path))
    return text
