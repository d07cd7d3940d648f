"""Differences between an expected and a loaded structure."""

import pytest

from ptblm.checkpoint.structure import StructureMismatchError, check_structure

# Not sorted, so that sorting and the order of a set would both be noticed.
NAMES = [f"layer{number * 7 % 20}" for number in range(20)]


def test_first_missing_or_unknown_key_is_named() -> None:
    values = dict.fromkeys(NAMES, 0)
    with pytest.raises(StructureMismatchError, match=r"^layer0: missing$"):
        check_structure(values, {})
    with pytest.raises(StructureMismatchError, match=r"^part\.layer0: unknown$"):
        check_structure({"part": {}}, {"part": values})
    del values["layer0"]
    with pytest.raises(StructureMismatchError, match=r"^layer7: missing$"):
        check_structure(values, {})
