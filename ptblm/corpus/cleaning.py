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

_START = {"<s>", "<bos>", "<sos>", "<go>", "<start>", "<sent>", "<sentence>", "<cls>", "<pad>"}
_START |= {"[bos]", "[cls]", "[pad]", "__bos__", "<|pad|>", "<|startoftext|>", "<|im_start|>"}
_START |= {"<|begin_of_text|>", "<|bos|>"}
_END = {"</s>", "<eos>", "<end>", "</sent>", "</sentence>", "<sep>", "<eop>", "<eod>", "[eos]"}
_END |= {"[sep]", "__eos__", "<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<|eos|>"}
# Other spellings of <unk>.
_UNK = {"<unk>", "<oov>", "<unknown>", "<raw_unk>", "<rare>", "<unk/>", "&lt;unk&gt;", "<|unk|>"}
_UNK |= {"[unk]", "[oov]", "[unknown]", "{unk}", "__unk__", "_unk_", "@@unknown@@"}


def _any_of(words: Iterable[str], flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[bytes]:
    """Returns a pattern for words between white space."""
    alternatives = "|".join(re.escape(word) for word in sorted(words))
    return re.compile(rf"(?<!\S)(?:{alternatives})(?!\S)".encode(), flags)


def _marks(start: set[str], end: set[str]) -> re.Pattern[bytes]:
    """Returns a pattern for sentence marks in a line.

    A mark needs no space at the side where the line ends. Marks such as `<|eos|>` need none at all.
    """
    first, last, anywhere = (
        "|".join(re.escape(word) for word in sorted(words)) or "(?!)"
        for words in (start, end, {word for word in start | end if word.startswith("<|")})
    )
    pattern = rf"^(?:{first})|(?<!\S)(?:{first}|{last})(?!\S)|(?:{last})$|{anywhere}"
    return re.compile(pattern.encode(), re.IGNORECASE)


_ANY_MARK, _START_MARK, _END_MARK = _marks(_START, _END), _marks(_START, set()), _marks(set(), _END)
_UNK_SPELLING = _any_of(_UNK)
# Words that may stand for unknown words, but are also ordinary words.
_POSSIBLE_UNK = _any_of({"UNK", "unk", "OOV", "_UNK", "UNKNOWN", "UUUNKKK"}, re.NOFLAG)
# What other spellings than those in brackets contain.
_UNK_PARTS = (b"UNK", b"OOV", b"_unk_", b"&lt;unk", b"{unk", b"@unknown@", b" unk ")
# A token of this form that begins or ends nearly all lines is probably a sentence mark.
_MARK_LIKE = re.compile(rb"[<\[{*|_@#].*|.*[>\]}*|_@#]|[A-Z]{3,}")
_NEARLY_ALL, _MIN_LINES = 0.9, 20
# A search for these patterns is ten times as fast as one for the marks themselves, so the marks
# are only searched for in blocks that contain them.
_BRACKETED = (re.compile(rb"<[^\s<>]{1,16}>"), re.compile(rb"\[[^\s\[\]]{1,16}\]"))

_CARRIAGE_RETURNS, _BYTE_ORDER_MARKS, _ZERO_WIDTH = "CR", "BOM", "ZWSP"
_UNK_PREFIX, _POSSIBLE_PREFIX = "unk:", "possible unk:"
_MARK_PREFIX, _KEPT_PREFIX, _REPEATED_PREFIX = "mark:", "kept mark:", "repeated:"


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
    if marks := _with_prefix(findings, _KEPT_PREFIX):
        lines.append(
            f"sentence marks are kept as tokens: {marks}; ptblm adds <eos> too, so the perplexity "
            "is not comparable with that of a text without marks"
        )
    if words := _names(findings, _REPEATED_PREFIX):
        lines.append(
            f"nearly all lines begin or end with {words}; if this is a sentence mark, remove it, "
            "because it lowers the perplexity"
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
    spelling = _UNK_SPELLING if unk is None else _any_of([*_UNK, unk])
    is_first = True

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
        if not names.isdisjoint(_START | _END) or b"__" in raw:
            lines = raw.splitlines(keepends=True)
            found = Counter(mark.decode() for line in lines for mark in _marks_of(line))
            if found and config.marks == "reject":
                raise _marks_error(source, found)
            kind = _MARK_PREFIX if config.marks == "drop" else _KEPT_PREFIX
            findings.update({kind + mark: count for mark, count in found.items()})
            if config.marks == "drop":
                raw = b"".join(_drop_marks(line) for line in lines)
        nonlocal is_first
        if is_first:
            findings.update(_REPEATED_PREFIX + word.decode() for word in _repeated_words(raw))
            is_first = False
        if config.tokenizer == "word":
            others = bracketed - {_UNK_WORD}
            if unk is not None or others or any(part in raw for part in _UNK_PARTS):
                raw = _replace_unk(raw, spelling, findings)
        return raw

    return clean_lines


def _marks_of(line: bytes) -> list[bytes]:
    """Returns the sentence marks in a line."""
    return _ANY_MARK.findall(line.strip())


def _drop_marks(line: bytes) -> bytes:
    """Returns a line without sentence marks; nothing if the line contained only marks."""
    if not _marks_of(line):
        return line
    sentences = [_START_MARK.sub(b"", part.strip()) for part in _END_MARK.split(line.strip())]
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


def _repeated_words(raw: bytes) -> set[bytes]:
    """Returns words that look like sentence marks and begin or end nearly all lines."""
    lines = [words for line in raw.split(b"\n") if (words := line.split())]
    if len(lines) < _MIN_LINES:
        return set()
    repeated = set()
    for at in (0, -1):
        word, count = Counter(words[at] for words in lines).most_common(1)[0]
        is_mark = _MARK_LIKE.fullmatch(word) and not _UNK_SPELLING.fullmatch(word)
        if count >= _NEARLY_ALL * len(lines) and len(word) > 1 and is_mark:
            repeated.add(word)
    return repeated


def _marks_error(source: Source, marks: Counter[str]) -> DataError:
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


def _names(findings: Findings, prefix: str) -> str:
    """Lists what was found of one kind, without counts."""
    return " and ".join(key.removeprefix(prefix) for key in findings if key.startswith(prefix))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
