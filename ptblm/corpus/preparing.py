"""Prepares a text for a tokenizer: converts it to UTF-8, cleans it and recognizes its form."""

from collections.abc import Iterable
from dataclasses import dataclass

from ptblm.config.data import DataConfig
from ptblm.corpus.cleaning import clean
from ptblm.corpus.datasets import DATASETS
from ptblm.corpus.encodings import MARK_SIZE, encoding_by_mark, is_utf8, to_utf8
from ptblm.corpus.findings import Findings
from ptblm.corpus.findings import notes as cleaning_notes
from ptblm.corpus.forms import TITLES, Form, form_of, is_nearly_spaced, plain_text
from ptblm.corpus.parts import clean_text
from ptblm.corpus.source import Source, bytes_source
from ptblm.errors import DataError

_FILES_BY_HASH = {
    file.sha256: f"{name} of {dataset.title}"
    for dataset in DATASETS.values()
    for name, file in dataset.files.items()
}


@dataclass(frozen=True)
class PreparedText:
    """A text that a tokenizer can read.

    Attributes:
        source: the text.
        form: the form that the file had.
        compression: how the file was compressed, such as "gzip"; None if it was not.
        encoding: the encoding of the file, if it is not UTF-8.
        known_as: name of the file if its checksum is known; only for special forms.
        findings: what cleaning changed.
        is_nearly_spaced: whether most of its characters, but not all, are separated by spaces.
    """

    source: Source
    form: Form
    compression: str | None
    encoding: str | None
    known_as: str | None
    findings: Findings
    is_nearly_spaced: bool


def prepare_text(raw: Source, config: DataConfig) -> PreparedText:
    """Returns the text in the form that the tokenizer of the config expects.

    The byte tokenizer reads bytes as they are, except for files that consist of the values of bytes
    or of characters separated by spaces.

    Args:
        raw: the text of a file.
        config: the config of the corpus.

    Raises:
        DataError: if the text cannot be read or converted; see `clean`.
    """
    source, findings = raw, Findings()
    encoding = config.encoding or encoding_by_mark(raw.read(MARK_SIZE))
    if config.tokenizer != "byte":
        if encoding is not None and not is_utf8(encoding):
            source = bytes_source(raw.name, to_utf8(raw.read(), encoding, raw.name))
        source, findings = clean_text(source, config)
    form: Form = "plain"
    if config.format == "auto":
        form = form_of(source)
    elif config.format != "raw":
        form = config.format
    known_as = None if form == "plain" else _FILES_BY_HASH.get(raw.sha256())
    if form != "plain" and (config.tokenizer != "word" or config.format != "auto"):
        source = plain_text(source, form)
        if config.tokenizer != "byte":
            _check_utf8(source)
            source, found_inside = clean(source, config)
            findings += found_inside
    nearly = config.format == "auto" and form == "plain" and is_nearly_spaced(source)
    return PreparedText(source, form, raw.compression, encoding, known_as, findings, nearly)


def _check_utf8(converted: Source) -> None:
    """Raises DataError if byte values, which can be those of any file, are not UTF-8 text."""
    try:
        converted.read().decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(
            "the byte values are not those of a UTF-8 text",
            where=converted.name,
            hint="use --tokenizer byte",
        ) from None


def notes(texts: Iterable[PreparedText], config: DataConfig) -> list[str]:
    """Returns one line for each kind of change that was made to the texts of a corpus."""
    texts = list(texts)
    lines = []
    if kinds := {text.compression for text in texts} - {None}:
        lines.append(f"decompressed ({', '.join(sorted(map(str, kinds)))})")
    if encodings := {text.encoding for text in texts} - {None}:
        names = ", ".join(sorted(map(str, encodings)))
        lines.append(
            f"the text is in {names}; the byte tokenizer reads its bytes as they are"
            if config.tokenizer == "byte"
            else f"converted from {names} to UTF-8"
        )
    if config.format == "auto":
        forms = sorted({text.form for text in texts} - {"plain"})
        lines += [_form_note(form, texts, config) for form in forms]
    if any(text.is_nearly_spaced for text in texts):
        lines.append(
            "nearly all characters of the text are separated by spaces; "
            "--set data.format=spaced_characters removes these spaces"
        )
    findings = sum((text.findings for text in texts), Findings())
    return lines + cleaning_notes(findings)


def _form_note(form: Form, texts: list[PreparedText], config: DataConfig) -> str:
    if config.tokenizer == "word":
        unit = "char" if form == "spaced_characters" else "byte"
        return (
            f"the text consists of {TITLES[form]}, and each is a word for the word tokenizer; "
            f"--tokenizer {unit} reads it as plain text"
        )
    known = sorted({text.known_as for text in texts if text.known_as and text.form == form})
    names = f" ({', '.join(known)})" if known else ""
    return (
        f"the text consists of {TITLES[form]}{names}, read as plain text "
        "(data.format: plain reads it as it is)"
    )
