"""A run whose best epoch, the second, is not its last."""

import random
from pathlib import Path

from ptblm.config.loading import load_config, override_config
from ptblm.config.schema import Config

BEST_EPOCH = 2


def write_random_corpus(directory: Path) -> Path:
    """Writes a corpus of random words, which a model can only memorize."""
    directory.mkdir()
    generator = random.Random(0)
    words = [*(f"w{number}" for number in range(12)), "<unk>"]
    for split, lines in (("train", 30), ("valid", 20), ("test", 20)):
        text = "".join(" ".join(generator.choices(words, k=6)) + "\n" for _ in range(lines))
        (directory / f"{split}.txt").write_text(text)
    return directory


def overfitting_config(corpus: Path, *overrides: str) -> Config:
    settings = [f"data.path={corpus}", "model.hidden_size=32", "model.num_layers=1"]
    settings += ["training.batch_size=2", "training.num_steps=10", "training.epochs=4"]
    settings += ["training.optimizer=adam", "training.learning_rate=0.03"]
    settings += ["training.schedule=constant"]
    return override_config(load_config("small", settings), list(overrides))
