"""Config keys of the corpus."""

from typing import Annotated, Literal

from pydantic import Field

from ptblm.config.section import Section


class DataConfig(Section):
    """The corpus, and how it is split into tokens."""

    path: Annotated[
        str,
        Field(
            min_length=1,
            pattern=r"^[^\x00]+$",
            description="'ptb' (fetched by download-data), 'sample' (embedded in ptblm), a "
            "directory with {ptb.,}{train,valid,test}.txt, or a text file, which is split by "
            "position: 90% train, 5% valid, 5% test",
        ),
    ] = "ptb"
    tokenizer: Annotated[
        Literal["word", "char", "byte"],
        Field(
            description="unit of a token: word, char (ptb then uses its character files) or byte"
        ),
    ] = "word"
