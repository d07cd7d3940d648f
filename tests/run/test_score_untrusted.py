"""`ptblm score` with damaged texts and tables: the right number of rows, or one clear message."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.in_process import assert_clear, mutated, ptblm

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "the cat\r\n\n<s> the 'dog' </s>\n\u00e9 \u3000\"x\"\n!ARTICLE\nend".encode()
TABLE = b'word,item,note\n"the",1,"a\nb"\n"""cat",1,\ndog,2,"c, d"\n'


@settings(max_examples=40)
@given(data=st.data(), tokenizer=st.sampled_from(["word", "char", "byte"]))
@pytest.mark.parametrize("mode", ["sentence", "document", "stream"])
def test_damaged_text(models: Path, mode: str, data: st.DataObject, tokenizer: str) -> None:
    content = data.draw(mutated(TEXT))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "text")
        path.write_bytes(content)
        options = ["--mode", mode, "--columns", "entropy,entropy_reduction,rank,length,frequency"]
        code, errors, output = ptblm("score", models / tokenizer, path, *options)
        assert_clear(code, errors, 3)
        header, *rows = output.removesuffix("\n").split("\n")
        assert all(row.count("\t") == header.count("\t") for row in rows)
        if tokenizer == "byte" and mode == "sentence":
            ends = 0 if content.endswith(b"\n") or not content else 1
            assert len(rows) == len(content) + ends


@settings(max_examples=80)
@given(content=mutated(TABLE))
def test_damaged_table(models: Path, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "words.csv")
        path.write_bytes(content)
        command = ["score", models / "word", path, "--table", "--previous", "1"]
        code, errors, output = ptblm(*command)
    assert_clear(code, errors, 2, 3)
    if code == 0:
        assert output.count("\n") == content.removesuffix(b"\n").count(b"\n") + 1
