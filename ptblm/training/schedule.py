"""The learning rate, a pure function of the epoch: nothing to save, nothing to get wrong."""

from ptblm.config.schema import TrainingConfig


def learning_rate(epoch: int, config: TrainingConfig) -> float:
    """The rate in `epoch` (from 0): full at first, then decayed once per epoch.

    learning_rate * learning_rate_decay ** max(epoch + 1 - full_rate_epochs, 0)
    (ptb_word_lm.py; Zaremba et al. 2014, section 4.1). The power is taken anew for each epoch,
    never compounded from the last one's rate.
    """
    decays = max(epoch + 1 - config.full_rate_epochs, 0)
    return config.learning_rate * config.learning_rate_decay**decays
