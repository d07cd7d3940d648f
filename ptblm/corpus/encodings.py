"""Converts text to UTF-8, and explains why a text is not UTF-8."""

import codecs
import sys

from ptblm.errors import DataError

# UTF-32 comes first, because its mark starts with the mark of UTF-16.
_MARKS = [
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]
MARK_SIZE = 4
SAMPLE_SIZE = 2**16
_ASCII_TEXT = {9, 10, 13, *range(32, 127)}
_MIN_ZEROS = 0.4  # share of zero bytes in English text in UTF-16
_WIDE = [("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)]


def encoding_by_mark(start: bytes) -> str | None:
    """Returns the encoding that a byte order mark names, except UTF-8; None without a mark."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), None)


def is_utf8(encoding: str) -> bool:
    """Returns whether an encoding needs no conversion; byte order marks are removed later."""
    return codecs.lookup(encoding).name in {"utf-8", "utf-8-sig"}


def lacks_byte_order(encoding: str, start: bytes) -> bool:
    """Returns whether neither the encoding nor the start of a text names its byte order."""
    return codecs.lookup(encoding).name in {"utf-16", "utf-32"} and not encoding_by_mark(start)


def with_byte_order(encoding: str, content: bytes) -> str:
    """Returns UTF-16 or UTF-32 with the byte order of a text; another encoding as it is.

    That of the machine is assumed if it cannot be recognized, as Python does for a whole text;
    its incremental decoders raise an error instead.

    Args:
        encoding: the encoding.
        content: the text, or at least its first SAMPLE_SIZE bytes.
    """
    if not lacks_byte_order(encoding, content):
        return encoding
    native = f"{codecs.lookup(encoding).name}-{sys.byteorder[0]}e"
    return _wide_encoding(content[:SAMPLE_SIZE]) or native


def to_utf8(content: bytes, encoding: str, name: str) -> bytes:
    """Converts a text to UTF-8.

    Args:
        content: the whole text.
        encoding: its encoding.
        name: name of the text in messages.

    Raises:
        DataError: if the bytes are not valid in this encoding.
    """
    encoding = with_byte_order(encoding, content)
    try:
        return content.decode(encoding).encode("utf-8")
    except UnicodeEncodeError:
        reason = "the text contains surrogates"
    except UnicodeDecodeError as error:
        reason = f"byte {error.start + 1:,}: {error.reason}"
    except UnicodeError as error:  # some codecs raise the base class
        reason = str(error)
    raise DataError(
        f"not {encoding} text: {reason}",
        where=name,
        hint="set data.encoding to the encoding of the file; null is UTF-8",
    ) from None


def not_utf8_error(content: bytes, name: str) -> DataError:
    """Returns the error for a text that is not UTF-8 or contains zero bytes.

    The message names the probable encoding, and the key or command that helps.

    Args:
        content: the whole text.
        name: name of the text in messages.
    """
    guess = _wide_encoding(content[:SAMPLE_SIZE])
    if guess is not None:
        iconv_name = guess.upper().replace("-LE", "LE").replace("-BE", "BE")
        return DataError(
            f"not UTF-8 text; it appears to be {iconv_name} without a byte order mark",
            where=name,
            hint=f"--set data.encoding={guess}, or convert it with `iconv -f {iconv_name} "
            "-t UTF-8`",
        )
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return _invalid_utf8_error(content, error.start, name)
    line, byte = _position(content, content.index(b"\0"))
    count = content.count(b"\0")
    return DataError(
        f"the text contains {count:,} zero {'byte' if count == 1 else 'bytes'} (NUL), the first "
        f"at byte {byte:,} of the line",
        where=f"{name}:{line}",
        hint="remove them with `tr -d '\\000'`, or train with --tokenizer byte if this is not text",
    )


def _invalid_utf8_error(content: bytes, start: int, name: str) -> DataError:
    line, byte = _position(content, start)
    sample = content[max(0, start - SAMPLE_SIZE // 2) :][:SAMPLE_SIZE]
    valid = sample.decode("utf-8", "ignore").encode()
    multibyte = sum(byte >= 128 for byte in valid)
    if multibyte > 4 * (len(sample) - len(valid)):
        guess, hint = (
            "it is mostly UTF-8, with some invalid bytes",
            "remove them with `iconv -c -f UTF-8 -t UTF-8`, or train with --tokenizer byte",
        )
    else:
        guess, hint = _eight_bit_guess(sample)
    return DataError(
        f"not UTF-8 text (byte {byte:,} of the line); {guess}", where=f"{name}:{line}", hint=hint
    )


def _eight_bit_guess(sample: bytes) -> tuple[str, str]:
    """Returns a description of the probable encoding, and a hint."""
    high = [byte for byte in sample if byte >= 128]
    letters = sum(chr(byte).isalpha() for byte in sample)
    if len(high) > max(letters, 1) // 2:
        return (
            "its encoding is probably not a Western European one",
            "set data.encoding, for example to gb18030, big5, shift_jis, euc-kr, koi8-r or cp1251, "
            "or train with --tokenizer byte",
        )
    is_windows = any(byte < 0xA0 for byte in high)
    name, encoding = ("CP1252", "cp1252") if is_windows else ("ISO-8859-1", "latin-1")
    title = "Windows-1252" if is_windows else "Latin-1"
    return (
        f"it appears to be {title} ({name})",
        f"--set data.encoding={encoding}, or convert it with `iconv -f {name} -t UTF-8`, "
        "or train with --tokenizer byte",
    )


def _wide_encoding(sample: bytes) -> str | None:
    """Returns the probable encoding of a UTF-16 or UTF-32 text without a byte order mark.

    In these encodings a space and a newline contain zero bytes, which UTF-8 text never does. A
    wrong encoding gives invalid characters, or almost no spaces and newlines.
    """
    is_ascii_text = set(sample) <= {0, *_ASCII_TEXT}
    if is_ascii_text and sample.count(0) < len(sample) * _MIN_ZEROS:
        return None
    for encoding, width in _WIDE:
        text = sample[: len(sample) // width * width].decode(encoding, "replace")
        is_valid = "\ufffd" not in text[:-1] and "\0" not in text
        if is_valid and text.count(" ") + text.count("\n") > max(1, len(text) // 200):
            return encoding
    return None


def _position(content: bytes, offset: int) -> tuple[int, int]:
    """Returns the line of a byte and its position in the line, both from 1."""
    line_start = content.rfind(b"\n", 0, offset) + 1
    return content.count(b"\n", 0, offset) + 1, offset - line_start + 1
