"""The config of a text that a trained model reads: its encoding and form, but not its tokens."""

from collections.abc import Sequence

from ptblm.config.data import DataConfig
from ptblm.config.loading import override_config
from ptblm.config.schema import Config
from ptblm.errors import ConfigError

# Keys that describe the text and not the model.
OVERRIDABLE = ("data.encoding", "data.format", "data.marks", "data.vocabulary.unk")


def typed_config(trained: DataConfig) -> DataConfig:
    """Returns the config of a text that is typed or passed by a program, for a trained model.

    Such a text is read as it is, because it can look like a file of separated characters by chance.
    """
    return trained.model_copy(update={"encoding": None, "format": "plain"})


def text_config(
    trained: DataConfig,
    overrides: Sequence[str],
    *,
    data: str | None = None,
    is_other_text: bool = True,
) -> DataConfig:
    """Returns the config of a text for a trained model.

    The encoding and the form of the training text do not apply to another text.

    Args:
        trained: the config of the training text.
        overrides: strings such as "data.encoding=latin-1", for how the text is read.
        data: another corpus.
        is_other_text: whether the text is not of the corpus of the run.

    Raises:
        ConfigError: if an override is not valid, or would change the tokens.
    """
    wrong = [each for each in overrides if not each.strip().startswith(OVERRIDABLE)]
    if wrong:
        raise ConfigError(
            f"--set {wrong[0]}: evaluation can only change {', '.join(OVERRIDABLE)}",
            hint="the rest of the config belongs to the trained model",
        )
    flags: dict[str, object] = {"data.path": data}
    if data is not None or is_other_text:
        form = "raw" if trained.format == "raw" else "auto"
        trained = trained.model_copy(update={"encoding": None, "format": form})
    return override_config(Config(data=trained), overrides, flags).data
