"""Shows a run in the terminal: introduction, progress, a row per epoch, summary."""

from ptblm import __version__
from ptblm.config.heads import AdaptiveConfig
from ptblm.config.model import ModelConfig
from ptblm.config.optimizers import USUAL_RATES, decouples_weight_decay
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import count_dropped, count_streams
from ptblm.corpus.corpus import Corpus
from ptblm.paths import shell_join
from ptblm.reporting.bits import run_measures
from ptblm.reporting.progress import Progress
from ptblm.reporting.published import published_results
from ptblm.reporting.reporter import RunInfo, RunResult
from ptblm.reporting.table import epoch_row, header, summary
from ptblm.terminal import counted, print_from_handler, print_messages
from ptblm.training.records import EpochDone, Record, best_epoch

# Learning rates above this are noted, unless they are usual for the optimizer.
_HIGH_RATE = 0.1

# Decoupled weight decay that shrinks the weights by less than this in a run has no effect.
_LOW_DECAY = 0.01

# Share of the training tokens that can be in no batch without a note.
_MAX_DROPPED = 0.01

# Share of the training tokens by which a shortlist can be worse than the best one without a note.
_MAX_MISSED = 0.05


class ConsoleReporter:
    """A `Reporter` that writes the results to stdout and everything else to stderr.

    Args:
        quiet: whether to write only the summary.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._again = "send the signal again"

    def start(self, info: RunInfo) -> None:
        """Prints the introduction, the header of the table, and the rows of completed epochs."""
        if info.computing["processes"] > 1:
            self._again = "press Ctrl-C"  # other signals are ignored from then on
        bounds = info.corpus.entropy_bounds
        self._progress = Progress(info.config.training.epochs, bounds)
        if self._quiet:
            return
        print_messages(introduction(info))
        rows = [epoch_row(done) for done in info.train_state.history]
        self._progress.print_lines(header(bounds) + rows)

    def write(self, record: Record) -> None:
        """Updates the progress bar and prints a row after each epoch."""
        if self._quiet:
            return
        self._progress.show(record)
        if isinstance(record, EpochDone):
            self._progress.print_lines([epoch_row(record)])

    def stopping(self) -> None:
        """Prints what a second signal does."""
        print_from_handler(f"stopping after this step; {self._again} to stop at once")

    def finish(self, result: RunResult) -> None:
        """Prints the summary."""
        self._progress.close()
        info = result.info
        published = published_results(info.config, info.corpus)
        lines = summary(
            result.history,
            result.test,
            info.unit,
            info.corpus.entropy_bounds,
            published,
            measures=run_measures(
                result.history[-1].valid_perplexity, result.test.score, info.corpus, info.unit
            ),
            stopped_early=result.stopped_early,
            is_tested=info.config.run.test,
        )
        if self._quiet:
            self._progress.print_lines(lines[1:])  # the first one separates them from the table
            return
        self._progress.print_lines(lines)
        print_messages(["", *_next_commands(result)])

    def close(self) -> None:
        """Removes the progress bar."""
        if hasattr(self, "_progress"):
            self._progress.close()


def _next_commands(result: RunResult) -> list[str]:
    """Returns the commands that evaluate the run and, if it is not the last, the best epoch."""
    test, paths = result.test, [result.info.path]
    if best_epoch(result.history) is not result.history[-1] and (
        test.best_score is not None or (test.score is None and result.best_checkpoint.is_file())
    ):
        paths.append(result.best_checkpoint)
    split = ["--split", "valid"] if test.score is None else []
    return [f"next: {shell_join(['ptblm', 'eval', str(path), *split])}" for path in paths]


def introduction(info: RunInfo) -> list[str]:
    """Returns the lines that describe a run at its start."""
    config, corpus = info.config, info.corpus
    tokens = counted(len(corpus.splits["train"].ids), "training token")
    kernel = f"{info.computing['kernel']}{', CUDA graph' if info.computing['cuda_graph'] else ''}"
    lines = [
        f"ptblm {__version__}",
        f"  corpus      {corpus.name}: {counted(len(corpus.vocabulary), info.unit)}, {tokens}",
    ]
    if corpus.split_rule is not None:
        lines.append(f"  split       {corpus.split_rule}")
    lines += [f"  note        {note}" for note in corpus.notes]
    lines += [
        f"  model       {info.parameters:,} parameters",
        f"  cell        {config.model.cell.type}, {kernel}",
        f"  device      {info.device}{onednn_note(info.computing['matmul'])}",
        *_processes(info),
        f"  precision   {config.run.precision}",
        f"  run         {info.path}",
    ]
    notes = [
        *optimizer_notes(corpus, config.training),
        *batch_notes(corpus, config.training),
        *head_notes(corpus, config.model),
    ]
    lines += [f"  note        {note}" for note in notes]
    if info.initial_weights is not None:
        lines.append(f"  weights     initially those of {info.initial_weights}")
    if info.train_state.step:
        state = info.train_state
        rate = "" if info.learning_rate is None else f"; learning rate {info.learning_rate:.4g}"
        lines.append(f"  resumed     after epoch {state.epoch:,}, step {state.step:,}{rate}")
    for split, text in corpus.splits.items():
        # The notes report those of train, unless the vocabulary was given.
        if text.unknown and (split != "train" or config.data.vocabulary.file is not None):
            unknown = counted(text.unknown, info.unit)
            verb = "becomes" if text.unknown == 1 else "become"
            lines.append(f"  unknown     {unknown} of {split} {verb} <unk>")
    return lines


def _processes(info: RunInfo) -> list[str]:
    """Returns a line on the processes of the run, if there are several."""
    count, batch_size = info.computing["processes"], info.config.training.batch_size
    if count == 1:
        return []
    fewest, most = batch_size // count, -(-batch_size // count)
    each = counted(most, "stream") if fewest == most else f"{fewest} or {counted(most, 'stream')}"
    return [f"  processes   {count}, each with {each} of a batch"]


def optimizer_notes(corpus: Corpus, training: TrainingConfig) -> list[str]:
    """Returns notes on a learning rate or weight decay that the optimizer rarely needs."""
    kind, rate, decay = training.optimizer.type, training.learning_rate, training.weight_decay
    notes = []
    usual = USUAL_RATES[kind]
    if usual < _HIGH_RATE < rate:
        notes.append(f"training.learning_rate is {rate:g}; {kind} usually needs about {usual:g}")
    steps = training.epochs * len(corpus.splits["train"].ids)
    steps //= training.batch_size * training.num_steps
    if decouples_weight_decay(training.optimizer) and 0 < rate * decay * steps < _LOW_DECAY:
        notes.append(
            f"training.weight_decay shrinks the weights by {rate * decay * steps:.1g} of their "
            f"size in the whole run, which has no effect; {kind} usually needs 0.01 to 0.1"
        )
    return notes


def batch_notes(corpus: Corpus, training: TrainingConfig) -> list[str]:
    """Returns notes on texts that are short for the batch size and the number of steps."""
    # A stream whose batches have random lengths is used to its end.
    num_steps = 1 if training.random_num_steps else training.num_steps
    batch_size = training.batch_size
    notes = []
    tokens = len(corpus.splits["train"].ids)
    dropped = count_dropped(tokens, batch_size, num_steps)
    if dropped > _MAX_DROPPED * (tokens - 1):
        alternatives = [
            *((count_dropped(tokens, batch_size, n), f"num_steps={n}") for n in _down(num_steps)),
            *((count_dropped(tokens, n, num_steps), f"batch_size={n}") for n in _down(batch_size)),
        ]
        fewest, change = min(alternatives, key=lambda alternative: alternative[0])
        advice = f"training.{change} leaves out {fewest / (tokens - 1):.1%}"
        if fewest == dropped:
            advice = "a much smaller training.batch_size or training.num_steps leaves out fewer"
        share = dropped / (tokens - 1)
        verb = "is" if dropped == 1 else "are"
        left_out = counted(dropped, "training token")
        notes.append(f"{left_out} ({share:.1%}) {verb} in no batch; {advice}")
    valid_tokens = len(corpus.splits["valid"].ids)
    streams = count_streams(valid_tokens, batch_size, training.num_steps, "valid split")
    if streams < batch_size:
        notes.append(
            f"validation uses {counted(streams, 'stream')} instead of {batch_size:,}: "
            "the text is short"
        )
    return notes


def head_notes(corpus: Corpus, model: ModelConfig) -> list[str]:
    """Returns a note if the ids are not in the order of counts, on which adaptive softmax relies.

    The vocabulary of a training text is in that order. One that was given has its own order, and
    the id of a byte is its value.
    """
    if not isinstance(model.head, AdaptiveConfig):
        return []
    counts = corpus.vocabulary.counts
    total = max(1, sum(counts))
    shortlist = [*model.head.cutoffs_for(len(counts)), len(counts)][0]
    share = sum(counts[:shortlist]) / total
    best = sum(sorted(counts, reverse=True)[:shortlist]) / total
    if best - share <= _MAX_MISSED:
        return []
    return [
        f"the first {counted(shortlist, corpus.tokenizer.unit)} of the vocabulary are {share:.0%} "
        f"of the training tokens, but the most frequent ones are {best:.0%}; head adaptive is "
        "slower and less accurate if the vocabulary is not in the order of counts"
    ]


def _down(value: int) -> range:
    """Returns the values from `value` down to half of it."""
    return range(value, value // 2, -1)


def onednn_note(matmul: str) -> str:
    """Returns a suffix for the device if oneDNN computes matrix multiplications."""
    return "; GEMM by oneDNN" if matmul == "onednn" else ""
