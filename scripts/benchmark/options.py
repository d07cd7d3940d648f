"""Benchmarks the cost of each option of a model or recipe, compared with a config without it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmark.measure import device_wait, ratios, spread, time_alternately
from benchmark.ptblm_run import (
    RunComponents,
    device_name,
    pick_device,
    precision_of,
    setup_run,
    training_steps,
    with_log_every,
    with_overrides,
    without_dropout,
)
from benchmark.train import window_of_records
from ptblm.config.schema import Config

WITHOUT, WITH = "without", "with"
_WINDOWS = 20


@dataclass(frozen=True)
class Option:
    """An option.

    Attributes:
        name: its name in the table of results.
        overrides: the config overrides that turn it on.
        base: config overrides of both contenders.
    """

    name: str
    overrides: tuple[str, ...]
    base: tuple[str, ...] = ()


_DROPOUT = ("model.dropout=0.5",)
_SMALL = ("data.vocabulary.size=1000",)  # a mixture is slow with a large one

_RATES = {
    "momentum": "training.learning_rate=0.1",
    "adam": "training.learning_rate=0.001",
    "adamw": "training.learning_rate=0.001",
    "nadam": "training.learning_rate=0.001",
    "muon": "training.learning_rate=0.01",
}

# Rates and factors hardly affect the time of a step.
OPTIONS = [
    Option("tied embeddings", ("model.tie_embeddings=true",)),
    Option("sum of layers", ("model.sum_layers=true",)),
    Option("output projection", ("model.output_projection=320",)),
    Option("softmax, mixture of 15", ("model.head=mixture", "model.head.components=15"), _SMALL),
    Option("softmax, adaptive", ("model.head=adaptive",)),
    Option("dropout", _DROPOUT),
    Option("dropout, locked", ("model.dropout.locked=true",), _DROPOUT),
    Option("dropout, embedding", ("model.dropout.embedding=0.1",)),
    Option("dropout, recurrent weights", ("model.dropout.recurrent_weights=0.5",)),
    Option("dropout, recurrent state", ("model.dropout.recurrent_state=0.3",)),
    Option("AR", ("training.activation_regularization=2",)),
    Option("TAR", ("training.temporal_activation_regularization=1",)),
    Option("average, ema", ("training.average=ema",)),
    Option("average, tail", ("training.average=tail", "training.average.start=0")),
    Option("average, two-tailed", ("training.average=two_tailed",)),
    Option("weight decay", ("training.weight_decay=1e-5",)),
    Option("streams, rotated", ("training.streams=rotated",)),
    Option("drop_state", ("training.drop_state=0.01",)),
    Option("random_num_steps", ("training.random_num_steps=true",)),
    Option("capped input gate", ("model.cell.cap_input_gate=true",)),
    Option("cell, mogrifier", ("model.cell=mogrifier",)),
    Option("cell, mogrifier of rank 40", ("model.cell=mogrifier", "model.cell.rank=40")),
    Option("cell, rlstm", ("model.cell=rlstm",)),
    Option("cell, sru", ("model.cell=sru",)),
    *(
        Option(f"optimizer, {name}", (f"training.optimizer={name}", rate))
        for name, rate in _RATES.items()
    ),
]


def option_configs(config: Config, option: Option) -> dict[str, Config]:
    """Returns a config without dropout, and the same config with an option."""
    without = with_overrides(without_dropout(config), option.base)
    return {WITHOUT: without, WITH: with_overrides(without, option.overrides)}


def bench_option(config: Config, steps: int, option: Option) -> dict[str, Any]:
    """Measures training steps of a config with and without an option, alternately.

    Dropout of the config is removed first, so that it is an option as well.

    Args:
        config: the config, with device, precision and text.
        steps: number of measured steps per contender, divided into 20 windows.
        option: the option to measure.

    Returns:
        The milliseconds of B * T tokens, which is a step unless the number of time steps is random,
        without and with the option; and their ratio.
    """
    count = max(1, steps // _WINDOWS)
    windows = math.ceil(steps / count)
    jobs, sizes = {}, {}
    for name, contender in option_configs(with_log_every(config, count), option).items():
        jobs[name], sizes[name] = _counted_window(setup_run(contender), count)
    seconds = time_alternately(jobs, windows, device_wait(pick_device(device_name(config))))
    tokens = config.training.batch_size * config.training.num_steps
    ms = {
        name: [
            1000 * tokens * time / size
            for time, size in zip(times, sizes[name][-windows:], strict=True)
        ]
        for name, times in seconds.items()
    }
    return {
        "option": option.name,
        "precision": precision_of(config),
        "tokens_per_step": tokens,
        "windows": windows,
        "steps_per_window": count,
        "ms_per_step": {name: spread(times) for name, times in ms.items()},
        "ratio": ratios(ms[WITH], ms[WITHOUT]),
    }


def _counted_window(components: RunComponents, count: int) -> tuple[Callable[[], None], list[int]]:
    """Returns a function that runs `count` steps, and the list of the targets of its calls."""
    run, sizes = window_of_records(training_steps(components), count), []
    trainer = components.trainer

    def window() -> None:
        before = trainer.train_state.tokens
        run()
        sizes.append(trainer.train_state.tokens - before)

    return window, sizes


def options_header(name: str, config: Config) -> list[str]:
    """Returns the header of the table of a config."""
    tokens = config.training.batch_size * config.training.num_steps
    return [
        "",
        f"options, {name}, {precision_of(config)}",
        f"ms per step of {tokens} tokens, median [quartiles]",
        f"  {'':<28}{'without':>30}{'with':>30}{'with / without':>22}",
    ]


def option_line(result: dict[str, Any]) -> str:
    """Returns the row of an option."""
    without, with_option = (result["ms_per_step"][name].text(2) for name in (WITHOUT, WITH))
    return f"  {result['option']:<28}{without:>30}{with_option:>30}{result['ratio'].text(2):>22}"
