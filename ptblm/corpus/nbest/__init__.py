"""N-best lists of speech recognizers: the formats that ptblm reads and writes."""

from ptblm.corpus.nbest import espnet, jsonl, kaldi, nemo, srilm, theanolm
from ptblm.corpus.nbest.hypothesis import Format

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        kaldi.FORMAT,
        srilm.FORMAT,
        theanolm.FORMAT,
        nemo.FORMAT,
        espnet.FORMAT,
        jsonl.FORMAT,
    )
}
