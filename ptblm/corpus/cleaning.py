"""Cleans text before it is tokenized: line ends, byte order marks, sentence marks, unknown words.

Text of the form that ptblm expects, with LF line ends and without marks, stays unchanged.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from ptblm.config.data import DataConfig
from ptblm.corpus.encodings import not_utf8_error
from ptblm.corpus.findings import Findings, Kind, with_counts
from ptblm.corpus.source import Source, bytes_source
from ptblm.corpus.vocabulary import UNK
from ptblm.errors import DataError

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


def _any_of(words: Iterable[str], any_case: Iterable[str] = ()) -> re.Pattern[bytes]:
    """Returns a pattern for words between white space, some of them in any case."""
    exact, folded = ("|".join(map(re.escape, sorted(each))) for each in (words, any_case))
    alternatives = "|".join(part for part in (exact, folded and f"(?i:{folded})") if part)
    return re.compile(rf"(?<!\S)(?:{alternatives})(?!\S)".encode())


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
_UNK_SPELLING = _any_of([], _UNK)
# Words that may stand for unknown words, but are also ordinary words.
_POSSIBLE_UNK = _any_of({"UNK", "unk", "OOV", "_UNK", "UNKNOWN", "UUUNKKK"})
# Substrings of spellings without brackets, each with a character that few texts contain: a search
# for one byte is many times as fast as a search for several.
_UNK_PARTS = (
    (b"K", b"UNK"),
    (b"V", b"OOV"),
    (b"_", b"_unk_"),
    (b"&", b"&lt;unk"),
    (b"{", b"{unk"),
    (b"@", b"@unknown@"),
    (b"k", b" unk "),
)
# A token of this form that begins or ends nearly all lines is probably a sentence mark.
_MARK_LIKE = re.compile(rb"[<\[{*|_@#].*|.*[>\]}*|_@#]|[A-Z]{3,}")
_NEARLY_ALL, _MIN_LINES = 0.9, 20
_SAMPLE_SIZE = 2**16  # bytes
_MAX_SHOWN = 60  # bytes of a word in a note
# A search for these patterns is ten times as fast as one for the marks themselves, so the marks
# are only searched for in blocks that contain them.
_BRACKETED = (
    (b"<", re.compile(rb"<[^\s<>]{1,16}>")),
    (b"[", re.compile(rb"\[[^\s\[\]]{1,16}\]")),
)


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
    clean_lines = line_cleaner(source.name, config, findings, source.read)
    if not all(clean_lines(lines) == lines for _, lines in source.blocks(_last_line_end)):
        findings.clear()
        cleaned = b"".join(clean_lines(lines) for _, lines in source.blocks(_last_line_end))
        source = bytes_source(source.name, cleaned)
    findings.update(("repeated word", word) for word in _repeated_words(source.read(_SAMPLE_SIZE)))
    return source, findings


def is_unknown_word(word: str) -> bool:
    """Returns whether a word is a spelling of `<unk>`, such as `<UNK>`, `[UNK]` or `<oov>`."""
    return word.lower() in _UNK


def is_end_mark(word: str) -> bool:
    """Returns whether a word marks the end of a sentence, such as `</s>`, `<EOS>` or `<end>`."""
    return word.lower() in _END


def line_cleaner(
    name: str, config: DataConfig, findings: Findings, content: Callable[[], bytes]
) -> Callable[[bytes], bytes]:
    """Returns a function that cleans whole lines and counts what it finds; see `clean`.

    Args:
        name: name of the text in messages.
        config: the config of the corpus.
        findings: receives the counts.
        content: returns the text so far, of which a message reports a line.
    """
    unk = config.vocabulary.unk
    spelling = _UNK_SPELLING if unk is None else _any_of([unk], _UNK)

    def clean_lines(raw: bytes) -> bytes:
        if b"\0" in raw or not _is_utf8(raw):
            raise not_utf8_error(content(), name)
        if not raw.isascii():
            if _ZERO_WIDTH_SPACE[-1:] in raw:  # a search for one byte is much faster
                findings["zero-width space", ""] += raw.count(_ZERO_WIDTH_SPACE)
            if _BYTE_ORDER_MARK[:1] in raw:
                findings["byte order mark", ""] += raw.count(_BYTE_ORDER_MARK)
                raw = raw.replace(_BYTE_ORDER_MARK, b"")
        if b"\r" in raw:
            raw = raw.replace(b"\r\n", b"\r")
            findings["line end", ""] += raw.count(b"\r")
            raw = raw.replace(b"\r", b"\n")
        # Without a list of all matches: a text of one line is one block.
        bracketed = {
            found[0]
            for bracket, pattern in _BRACKETED
            if bracket in raw
            for found in pattern.finditer(raw)
        }
        names = {word.decode().lower() for word in bracketed}
        if not names.isdisjoint(_START | _END) or (b"_" in raw and b"__" in raw):
            raw = _clean_marks(name, raw, config.marks, findings)
        if config.tokenizer == "word":
            others = bracketed - {_UNK_WORD}
            if (
                unk is not None
                or others
                or any(rare in raw and part in raw for rare, part in _UNK_PARTS)
            ):
                raw = _replace_unk(raw, spelling, findings)
        return raw

    return clean_lines


def _clean_marks(name: str, raw: bytes, rule: str, findings: Findings) -> bytes:
    """Drops, keeps or rejects the sentence marks in whole lines, as `data.marks` says."""
    counts: dict[bytes, int] = {}
    lines = [(line, _count_marks(line, counts)) for line in raw.splitlines(keepends=True)]
    found = Counter({mark.decode(): count for mark, count in counts.items()})
    if found and rule == "reject":
        raise DataError(
            "the text contains sentence marks, which data.marks rejects: "
            + with_counts(dict(found.most_common(5))),
            where=name,
            hint="remove them, or set data.marks to drop or keep",
        )
    kind: Kind = "dropped mark" if rule == "drop" else "kept mark"
    findings.update({(kind, mark): count for mark, count in found.items()})
    if rule == "keep":
        return raw
    return b"".join(_without_marks(line) if has_marks else line for line, has_marks in lines)


def _count_marks(line: bytes, counts: dict[bytes, int]) -> bool:
    """Adds the marks in a line to `counts`, and returns whether there are any."""
    mark = None
    for mark in _ANY_MARK.finditer(line.strip()):
        counts[mark[0]] = counts.get(mark[0], 0) + 1
    return mark is not None


def _without_marks(line: bytes) -> bytes:
    """Returns the sentences of a line as lines; nothing if the line contained only marks."""
    parts = (
        b"".join(_between(_START_MARK, part.strip())).strip()
        for part in _between(_END_MARK, line.strip())
    )
    sentences = b"\n".join(part for part in parts if part)
    return sentences + b"\n" if sentences and line.endswith(b"\n") else sentences


def _between(pattern: re.Pattern[bytes], text: bytes) -> Iterator[bytes]:
    """Yields the parts of a text between matches, in less memory than `Pattern.split`."""
    start = 0
    for found in pattern.finditer(text):
        yield text[start : found.start()]
        start = found.end()
    yield text[start:]


def _replace_unk(raw: bytes, spelling: re.Pattern[bytes], findings: Findings) -> bytes:
    """Replaces other spellings of the unknown word by `<unk>`, and counts possible ones."""

    def replace(match: re.Match[bytes]) -> bytes:
        findings["unknown word", match[0].decode()] += 1
        return _UNK_WORD

    raw = spelling.sub(replace, raw)
    for word in _POSSIBLE_UNK.findall(raw):
        findings["possible unknown word", word.decode()] += 1
    return raw


def _repeated_words(sample: bytes) -> set[str]:
    """Returns words that look like sentence marks and begin or end nearly all lines."""
    lines = [words for line in sample.split(b"\n") if (words := line.split())]
    if len(lines) < _MIN_LINES:
        return set()
    repeated = set()
    for at in (0, -1):
        word, count = Counter(words[at] for words in lines).most_common(1)[0]
        is_mark = _MARK_LIKE.fullmatch(word) and not _UNK_SPELLING.fullmatch(word)
        if count >= _NEARLY_ALL * len(lines) and len(word) > 1 and is_mark:
            repeated.add(word[:_MAX_SHOWN].decode("utf-8", "replace"))
    return repeated


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
