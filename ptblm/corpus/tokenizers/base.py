"""What a token of a text is: a word, a character or a byte."""

from typing import Literal

Level = Literal["word", "char", "byte"]

# How a token is called in prose, and in the names of figures.
UNITS: dict[Level, str] = {"word": "word", "char": "character", "byte": "byte"}
