"""An override is blamed for its own mistakes, never a shipped file."""

import pytest

from ptblm.config.loading import load_config
from ptblm.errors import ConfigError


@pytest.mark.parametrize(
    "override",
    ["data.vocabulary.size=2", "foo.bar=1", "run.x.y=2", "training.optimiser.type=adam"],
)
def test_error_names_the_override(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("small", [override])
    assert caught.value.what.startswith(f"--set {override}: ")


def test_nan_override_does_not_contradict_itself() -> None:
    with pytest.raises(ConfigError, match="expected a finite number"):
        load_config("small", ["training.learning_rate=.nan"])
