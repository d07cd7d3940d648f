"""Describes an evaluation, which decides what its result can be compared with."""

from ptblm.config.evaluation import EvaluationSettings


def method_name(settings: EvaluationSettings, models: int) -> str:
    """Returns the kind of an evaluation.

    Args:
        settings: the settings, without sections that change nothing.
        models: the number of models.
    """
    probabilities = "deterministic" if settings.monte_carlo is None else "Monte-Carlo dropout"
    weights = "static weights" if settings.dynamic is None else "dynamic evaluation"
    cache = "" if settings.cache is None else ", neural cache"
    ensemble = "" if models == 1 else f", ensemble of {models:,} models"
    return f"{probabilities}, {weights}{cache}{ensemble}"


def method_steps(settings: EvaluationSettings, models: int) -> list[str]:
    """Returns what is computed besides the static probabilities of one model, in order."""
    steps = []
    if settings.temperature != 1:
        steps.append(f"temperature {settings.temperature:g}")
    if (monte_carlo := settings.monte_carlo) is not None:
        steps.append(
            f"mean probability of {monte_carlo.samples:,} dropout samples, seed {monte_carlo.seed}"
        )
    if models > 1:
        shares = ", ".join(f"{share:.4g}" for share in settings.shares(models))
        steps.append(f"mean probability of {models:,} models with the weights {shares}")
    if (cache := settings.cache) is not None:
        steps.append(
            f"neural cache of {cache.window:,} tokens, theta {cache.theta:g}, weight "
            f"{cache.weight:g}, from the first token on"
        )
    if (dynamic := settings.dynamic) is not None:
        steps.append(
            f"dynamic evaluation, rule {dynamic.rule}, learning rate {dynamic.learning_rate:g}, "
            f"decay {dynamic.decay:g}, epsilon {dynamic.epsilon:g}, segments of "
            f"{dynamic.segment_length:,} tokens, each scored before the update"
        )
    return steps
