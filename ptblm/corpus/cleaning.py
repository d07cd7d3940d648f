"""Cleans text before it is tokenized: line ends, byte order marks, sentence marks, unknown words.

Text of the form that ptblm expects, with LF line ends and without marks, stays unchanged.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable

from ptblm.config.data import DataConfig
from ptblm.corpus.encodings import not_utf8_error
from ptblm.corpus.source import Source, bytes_source
from ptblm.corpus.vocabulary import UNK
from ptblm.errors import DataError

# Counts what was found in a text, by description; the descriptions are keys of `notes`.
Findings = Counter[str]

_BYTE_ORDER_MARK = "\ufeff".encode()
_ZERO_WIDTH_SPACE = "\u200b".encode()
_UNK_WORD = UNK.encode()

_START = {"<s>", "<bos>", "<sos>", "<go>", "<pad>", "<|pad|>", "<|startoftext|>"}
_START |= {"[bos]", "[cls]", "[pad]"}
_END = {"</s>", "<eos>", "<|endoftext|>", "[eos]", "[sep]"}
# Other spellings of <unk>.
_UNK = {"<unk>", "<oov>", "<unknown>", "<|unk|>", "[unk]", "[oov]", "[unknown]", "__unk__"}


def _any_of(words: Iterable[str], flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[bytes]:
    """Returns a pattern for words between white space. Words such as `<|pad|>` need no space."""
    alternatives = [
        re.escape(word) if word.startswith("<|") else rf"(?<!\S){re.escape(word)}(?!\S)"
        for word in sorted(words)
    ]
    return re.compile("|".join(alternatives).encode(), flags)


_ANY_MARK, _START_MARK, _END_MARK = _any_of(_START | _END), _any_of(_START), _any_of(_END)
_UNK_SPELLING = _any_of(_UNK)
# Words that may stand for unknown words, but are also ordinary words.
_POSSIBLE_UNK = _any_of({"UNK", "OOV", "_UNK"}, re.NOFLAG)
# A search for these patterns is ten times as fast as one for the marks themselves, so the marks
# are only searched for in blocks that contain them.
_BRACKETED = (re.compile(rb"<[^\s<>]{1,16}>"), re.compile(rb"\[[^\s\[\]]{1,16}\]"))

_CARRIAGE_RETURNS, _BYTE_ORDER_MARKS, _ZERO_WIDTH = "CR", "BOM", "ZWSP"
_UNK_PREFIX, _POSSIBLE_PREFIX, _MARK_PREFIX = "unk:", "possible unk:", "mark:"


def clean(source: Source, config: DataConfig) -> tuple[Source, Findings]:
    """Normalizes a text for the tokenizers, and counts the changes.

    - CR LF and CR become LF.
    - Byte order marks (U+FEFF) are removed, at the start and inside.
    - Sentence marks between spaces are dropped: a mark that ends a sentence inside a line becomes a
      line end, and a line of marks disappears. `data.marks` can keep or reject them.
    - With the word tokenizer, other spellings of the unknown word become `<unk>`.

    A text that needs no change is not copied.

    Args:
        source: UTF-8 text.
        config: the config of the corpus.

    Raises:
        DataError: if the text is not UTF-8, contains zero bytes, contains sentence marks that
            `data.marks` rejects, or cannot be read.
    """
    findings: Findings = Counter()
    clean_lines = _line_cleaner(source, config, findings)
    if all(clean_lines(lines) == lines for _, lines in source.blocks(_last_line_end)):
        return source, findings
    findings.clear()
    cleaned = b"".join(clean_lines(lines) for _, lines in source.blocks(_last_line_end))
    return bytes_source(source.name, cleaned), findings


def notes(findings: Findings) -> list[str]:
    """Returns a sentence for each kind of change."""
    lines = []
    if findings[_CARRIAGE_RETURNS]:
        lines.append(f"{findings[_CARRIAGE_RETURNS]:,} line ends were CR or CR LF; read as LF")
    if findings[_BYTE_ORDER_MARKS]:
        lines.append(f"{_count(findings[_BYTE_ORDER_MARKS], 'byte order mark')} (U+FEFF) removed")
    if findings[_ZERO_WIDTH]:
        count = _count(findings[_ZERO_WIDTH], "zero-width space")
        lines.append(f"the text contains {count} (U+200B); they are part of the words around them")
    if marks := _with_prefix(findings, _MARK_PREFIX):
        lines.append(
            f"sentence marks were dropped: {marks}; ptblm adds <eos> itself "
            "(data.marks: keep keeps them)"
        )
    if spellings := _with_prefix(findings, _UNK_PREFIX):
        lines.append(f"read as the unknown word <unk>: {spellings}")
    words = _with_prefix(findings, _POSSIBLE_PREFIX)
    if words and not findings[UNK]:
        lines.append(
            f"the text contains {words}; if it stands for unknown words, pass "
            f"--set data.vocabulary.unk={words.split()[-1]}"
        )
    return lines


def is_unknown_word(word: str) -> bool:
    """Returns whether a word is a spelling of `<unk>`, such as `<UNK>`, `[UNK]` or `<oov>`."""
    return word.lower() in _UNK


def _line_cleaner(
    source: Source, config: DataConfig, findings: Findings
) -> Callable[[bytes], bytes]:
    """Returns a function that cleans whole lines and counts what it finds."""
    unk = config.vocabulary.unk
    spelling = _UNK_SPELLING if unk is None else _any_of([unk], re.NOFLAG)

    def clean_lines(raw: bytes) -> bytes:
        if b"\0" in raw or not _is_utf8(raw):
            raise not_utf8_error(source.read(), source.name)
        if not raw.isascii():
            findings[_ZERO_WIDTH] += raw.count(_ZERO_WIDTH_SPACE)
            findings[_BYTE_ORDER_MARKS] += raw.count(_BYTE_ORDER_MARK)
            raw = raw.replace(_BYTE_ORDER_MARK, b"")
        if b"\r" in raw:
            raw = raw.replace(b"\r\n", b"\r")
            findings[_CARRIAGE_RETURNS] += raw.count(b"\r")
            raw = raw.replace(b"\r", b"\n")
        bracketed = {word for pattern in _BRACKETED for word in pattern.findall(raw)}
        names = {word.decode().lower() for word in bracketed}
        if config.marks != "keep" and not names.isdisjoint(_START | _END):
            if config.marks == "reject":
                raise _marks_error(source)
            raw = b"".join(_drop_marks(line, findings) for line in raw.splitlines(keepends=True))
        if config.tokenizer == "word":
            others = bracketed - {_UNK_WORD}
            if unk is not None or others or b"UNK" in raw or b"OOV" in raw or b"__unk__" in raw:
                raw = _replace_unk(raw, spelling, findings)
        return raw

    return clean_lines


def _drop_marks(line: bytes, findings: Findings) -> bytes:
    """Returns a line without sentence marks; nothing if the line contained only marks."""
    marks = _ANY_MARK.findall(line)
    if not marks:
        return line
    findings.update(_MARK_PREFIX + mark.decode() for mark in marks)
    sentences = [_START_MARK.sub(b"", part) for part in _END_MARK.split(line)]
    sentences = [sentence.strip() for sentence in sentences]
    line_end = b"\n" if line.endswith(b"\n") else b""
    return b"".join(sentence + b"\n" for sentence in sentences if sentence)[:-1] + (
        line_end if any(sentences) else b""
    )


def _replace_unk(raw: bytes, spelling: re.Pattern[bytes], findings: Findings) -> bytes:
    """Replaces other spellings of the unknown word by `<unk>`, and counts possible ones."""

    def replace(match: re.Match[bytes]) -> bytes:
        findings[UNK] += 1
        if match[0] != _UNK_WORD:
            findings[_UNK_PREFIX + match[0].decode()] += 1
        return _UNK_WORD

    raw = spelling.sub(replace, raw)
    findings.update(_POSSIBLE_PREFIX + word.decode() for word in _POSSIBLE_UNK.findall(raw))
    return raw


def _marks_error(source: Source) -> DataError:
    marks = Counter(mark.decode() for mark in _ANY_MARK.findall(source.read()))
    listed = ", ".join(f"{count:,} {mark}" for mark, count in marks.most_common(5))
    return DataError(
        f"the text contains sentence marks, which data.marks rejects: {listed}",
        where=source.name,
        hint="remove them, or set data.marks to drop or keep",
    )


def _is_utf8(raw: bytes) -> bool:
    if raw.isascii():
        return True
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _last_line_end(raw: bytes) -> int:
    """Ends a block after a newline, so that it contains whole lines."""
    return raw.rfind(b"\n") + 1


def _with_prefix(findings: Findings, prefix: str) -> str:
    """Lists the findings of one kind, as in "80 <s>, 80 </s>"."""
    found = {key.removeprefix(prefix): n for key, n in findings.items() if key.startswith(prefix)}
    return ", ".join(f"{count:,} {name}" for name, count in found.items())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
