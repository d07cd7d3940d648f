"""Formats the results of commands as text or JSON."""

from typing import Any

from ptblm.corpus.vocabulary import EOS, UNK
from ptblm.evaluation.scorers.description import method_name
from ptblm.paths import shell_join
from ptblm.reporting.bits import score_bits, text_measures
from ptblm.reporting.console import onednn_note
from ptblm.run.checkpoints import CheckpointInfo, Verdict
from ptblm.run.dry_run import DryRun
from ptblm.run.evaluate import Evaluation
from ptblm.run.import_model import ImportedModel
from ptblm.terminal import counted, megabytes

# A larger perplexity is shown as in 1.23e+12.
_MAX_PLAIN = 1e7


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """Returns an evaluation as JSON values, unrounded."""
    score = evaluation.score
    without_unk = score.without(UNK)
    open_score, unit = evaluation.open_score, evaluation.unit
    size = {"words": evaluation.size.words, "bytes": evaluation.size.utf8_bytes}
    return {
        "checkpoint": str(evaluation.checkpoint),
        "epochs": evaluation.epochs,
        "steps": evaluation.steps,
        "text": evaluation.text,
        "tokens": score.tokens,
        "nats_per_token": score.nats,
        "bits_per_token": score.bits,
        "perplexity": score.perplexity,
        "unigram_perplexity": evaluation.unigram,
        **score_bits(score, unit),
        "entropy_bound": evaluation.entropy_bound,
        f"unknown_{unit}s": evaluation.unknown,
        "notes": evaluation.notes,
        "unk_tokens": score.part(UNK).tokens,
        "tokens_without_unk": score.tokens - score.part(UNK).tokens,
        "perplexity_with_padded_vocabulary": None if open_score is None else open_score.perplexity,
        **({} if unit == "word" else size),
        **text_measures(score.nll, evaluation.size, unit),
        "perplexity_without_unk": None if without_unk is None else without_unk.perplexity,
        "protocol": evaluation.protocol,
        "method": _method(evaluation),
        "ensemble": [str(path) for path in evaluation.ensemble],
        "settings": evaluation.settings.model_dump(exclude={"tuned"}),
        "computing": {
            "device": str(evaluation.device.device),
            "hardware": evaluation.device.hardware,
            "threads": evaluation.device.threads,
            "matmul": evaluation.matmul,
        },
    }


def progress_text(epochs: int, steps: int) -> str:
    """Returns how long the model of a checkpoint was trained; an imported one was not."""
    return f"after epoch {epochs:,}, step {steps:,}" if steps else "not trained by ptblm"


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """Returns an evaluation as lines of text."""
    score, unit, bound = evaluation.score, evaluation.unit, evaluation.entropy_bound
    entropy_bound = "" if bound is None else f" (entropy bound {bound:.2f})"
    without_eos = score.without(EOS) if EOS in score.breakdown else None
    bits = "" if without_eos is None else f", {without_eos.bits:.4f} without {EOS}"
    progress = progress_text(evaluation.epochs, evaluation.steps)
    is_static = evaluation.settings.is_static() and not evaluation.ensemble
    unigram = "" if evaluation.unigram is None else f"; unigram model {_shown(evaluation.unigram)}"
    lines = [
        f"checkpoint   {evaluation.checkpoint}, {progress}",
        *(f"ensemble     {path}" for path in evaluation.ensemble),
        *([] if is_static else [f"method       {_method(evaluation)}"]),
        f"text         {evaluation.text}",
        f"tokens       {score.tokens:,} scored",
        f"nats         {score.nats:.4f} per token",
        f"bits         {score.bits:.4f} per {unit}{bits}",
        f"perplexity   {_shown(score.perplexity)}{entropy_bound}{unigram}",
        f"unknown      {counted(evaluation.unknown, unit)} "
        f"{'is' if evaluation.unknown == 1 else 'are'} not in the vocabulary",
    ]
    unk_tokens, without_unk = score.part(UNK).tokens, score.without(UNK)
    if unk_tokens and without_unk is not None:
        others = "other" if without_unk.tokens == 1 else f"{without_unk.tokens:,} others"
        lines.append(
            f"<unk>        {counted(unk_tokens, 'target')} {'is' if unk_tokens == 1 else 'are'} "
            f"<unk>; perplexity of the {others} {_shown(without_unk.perplexity)}"
        )
    measures = text_measures(score.nll, evaluation.size, unit)
    if (per_word := measures.get("perplexity_per_word")) is not None:
        lines.append(
            f"words        {counted(evaluation.size.words, 'word')} and line ends; perplexity per "
            f"word {_shown(per_word)}"
        )
    if (per_byte := measures.get("bits_per_byte")) is not None:
        size = counted(evaluation.size.utf8_bytes, "byte")
        lines.append(f"bytes        {size}; {per_byte:.4f} bits per byte")
    if evaluation.open_score is not None:
        lines.append(
            f"padded       perplexity {_shown(evaluation.open_score.perplexity)} with a vocabulary "
            f"of {evaluation.vocabulary_size:,} {unit}s"
        )
    return [
        *lines,
        *(f"note         {note}" for note in evaluation.notes),
        f"protocol     {evaluation.protocol}",
        f"device       {evaluation.device}{onednn_note(evaluation.matmul)}",
    ]


def _method(evaluation: Evaluation) -> str:
    return method_name(evaluation.settings, 1 + len(evaluation.ensemble))


def _shown(perplexity: float) -> str:
    return f"{perplexity:.2f}" if perplexity < _MAX_PLAIN else f"{perplexity:.4g}"


def dry_run_lines(dry_run: DryRun) -> list[str]:
    """Returns the estimates of a dry run as lines of text."""
    corpus, unit = dry_run.corpus, dry_run.corpus.tokenizer.unit
    steps, tokens = dry_run.steps_per_epoch * dry_run.epochs, dry_run.tokens_per_step
    first = "first step" if dry_run.first_steps == 1 else f"first {dry_run.first_steps:,} steps"
    minutes = round(steps * dry_run.seconds_per_step / 60)
    where = " on the GPU" if dry_run.device.device.type == "cuda" else ""
    peak = "unknown" if dry_run.peak_bytes is None else f"{megabytes(dry_run.peak_bytes)}{where}"
    return [
        f"corpus           {corpus.name}, {counted(len(corpus.vocabulary), unit)}",
        *([] if corpus.split_rule is None else [f"split            {corpus.split_rule}"]),
        *(f"note             {note}" for note in corpus.notes),
        *(f"note             {note}" for note in dry_run.notes),
        f"device           {dry_run.device}",
        f"parameters       {dry_run.parameters:,}",
        f"steps per epoch  {dry_run.steps_per_epoch:,} of "
        f"{counted(round(tokens), 'token')}{'' if tokens.is_integer() else ' on average'}",
        f"total steps      {steps:,} in {counted(dry_run.epochs, 'epoch')}",
        f"{first:<17}perplexity {dry_run.first_perplexity:.1f}",
        f"estimated time   {counted(minutes, 'minute')} of training, "
        f"{dry_run.seconds_per_step * 1000:,.0f} ms per step",
        f"peak memory      {peak}, of which {megabytes(dry_run.held_bytes)} are weights, "
        "gradients and optimizer state",
    ]


def checkpoint_lines(info: CheckpointInfo) -> list[str]:
    """Returns the content of a checkpoint as lines of text."""
    checkpoint = info.checkpoint
    versions = ", ".join(f"{name} {version}" for name, version in checkpoint.versions.items())
    computing, imported = checkpoint.computing, checkpoint.imported_from
    averaged = checkpoint.train_state["averaged"].get("average", 0)
    lines = [
        f"checkpoint   {info.path}, {info.size:,} bytes, format {checkpoint.format}",
        f"trained      {counted(info.epochs, 'epoch')}, {counted(info.steps, 'step')}",
        *([f"average      of the weights after {counted(averaged, 'step')}"] if averaged else []),
        f"model        {counted(info.parameters, 'parameter')}, "
        f"{counted(len(checkpoint.vocabulary['tokens']), info.unit)}",
        *([f"cell         {info.custom_cell}, which was not run"] if info.custom_cell else []),
        f"corpus       {checkpoint.corpus['name'] or 'unknown'}",
        *(
            [f"device       {computing['device']} ({computing['hardware']})"]
            if imported is None
            else [
                f"imported     {imported['file']} ({imported['kind']})",
                f"sha256       {imported['sha256']}",
            ]
        ),
        f"written by   {versions}",
    ]
    if valid := info.valid_perplexities:
        lines.append(f"valid        perplexity {valid[-1]:.2f}")
        best = valid.index(min(valid)) + 1
        if best < len(valid):
            lines.append(f"best valid   perplexity {min(valid):.2f} after epoch {best:,}")
    return lines


_KINDS = {"examples": "PyTorch's word_language_model", "awd": "AWD-LSTM"}


def import_lines(imported: ImportedModel) -> list[str]:
    """Returns the result of an import as lines of text."""
    origin = imported.checkpoint.imported_from or {}
    model, path = imported.config.model, imported.directory.path
    units = ", ".join(f"{size:,}" for size in dict.fromkeys(model.units))
    known = imported.checkpoint.corpus["name"]
    evaluate = ["ptblm", "eval", str(path), *([] if known else ["--text", "FILE"])]
    return [
        f"imported     {origin['file']}, the form of {_KINDS[origin['kind']]}",
        f"sha256       {origin['sha256']}",
        f"model        {model.cell.type}, {counted(model.num_layers, 'layer')} of {units} units, "
        f"{counted(imported.parameters, 'parameter')}",
        f"vocabulary   {counted(len(imported.checkpoint.vocabulary['tokens']), 'word')}",
        f"written      {imported.directory.last}",
        f"evaluate     {shell_join(evaluate)}",
    ]


def verdict_line(verdict: Verdict) -> str:
    """Returns a line of text that reports whether a checkpoint is usable."""
    if verdict.problem is not None:
        return f"{verdict.path}: bad, {verdict.problem}"
    cell = f"; the custom cell {verdict.custom_cell} was not run" if verdict.custom_cell else ""
    return f"{verdict.path}: good, epoch {verdict.epochs:,}, step {verdict.steps:,}{cell}"
