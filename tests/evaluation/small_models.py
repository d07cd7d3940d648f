"""Tiny models and texts for tests of scorers."""

import torch
from torch import Tensor

from ptblm.config.evaluation import EvaluationSettings
from ptblm.config.model import ModelConfig
from ptblm.evaluation.scorers.pipeline import Pipeline, text_chunks
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel

VOCABULARY = 7


def small_model(seed: int = 0, dropout: object = 0.5, **options: object) -> LanguageModel:
    """A model in float64, with large weights so that contexts matter."""
    config = ModelConfig.model_validate(
        {"hidden_size": 4, "num_layers": 2, "dropout": dropout, **options}
    )
    model = build_model(config, VOCABULARY)
    model.initialize(Initializer("uniform", 1.0), torch.Generator().manual_seed(seed))
    return model.double().eval()


def random_ids(tokens: int = 60, seed: int = 1) -> Tensor:
    return torch.randint(VOCABULARY, (tokens,), generator=torch.Generator().manual_seed(seed))


def all_log_probs(pipeline: Pipeline, ids: Tensor) -> Tensor:
    """The log-probabilities that predict each token of a text but the first, [N, V]."""
    scorer = pipeline.start()
    chunks = text_chunks(ids, scorer)
    return torch.cat([scorer(inputs, targets) for inputs, targets in chunks])


def log_probs_of(
    models: list[LanguageModel], ids: Tensor, window: int = 35, **settings: object
) -> Tensor:
    """The log-probabilities under settings, [N, V]."""
    rms = settings.pop("rms", None)
    chosen = EvaluationSettings.model_validate(settings)
    return all_log_probs(Pipeline(models, chosen, window, rms), ids)  # type: ignore[arg-type]


def plain_log_probs(model: LanguageModel, ids: Tensor) -> Tensor:
    """The same for fixed weights, computed token by token."""
    state, rows = model.initial_state(1), []
    with torch.no_grad():
        for token in ids[:-1]:
            features, state = model.features(token[None, None], state)
            rows.append(model.head.log_probs(features[0])[0])
    return torch.stack(rows)
