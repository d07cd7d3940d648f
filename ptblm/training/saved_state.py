"""What a trainer saves in a checkpoint, and how another trainer restores it."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ptblm.checkpoint.structure import StructureMismatchError, check_structure
from ptblm.errors import DifferentWeightsError
from ptblm.training.averaging import NAMES, check_averages
from ptblm.training.optimizer import SGD
from ptblm.training.state import TrainState, check_progress

if TYPE_CHECKING:
    from ptblm.training.trainer import Trainer


def collect_state(trainer: "Trainer") -> None:
    """Collects what `trainer_state` needs of other processes. All processes must call it.

    Raises:
        DifferentWeightsError: if the weights differ between processes.
    """
    if not trainer.world.are_equal(trainer.model.parameters()):
        raise DifferentWeightsError(
            "the weights are not the same in all processes; nothing was saved",
            hint="resume the run from its last checkpoint",
        )
    batch_size = trainer.config.batch_size
    trainer.global_hidden_state = (
        trainer.train_state.step,
        [
            [trainer.world.gather_rows(part, batch_size) for part in layer]
            for layer in trainer.hidden_state
        ],
    )


def _global_hidden_state(trainer: "Trainer") -> list[list[Tensor]]:
    """Returns the hidden state of all streams, by layer."""
    if trainer.world.size == 1:
        return [list(layer) for layer in trainer.hidden_state]
    if trainer.train_state.batch == 0:
        initial = trainer.model.initial_state(trainer.config.batch_size)
        return [[part.detach() for part in layer] for layer in initial]
    step, hidden_state = trainer.global_hidden_state
    if step != trainer.train_state.step:
        raise RuntimeError("collect_state must be called before the state is saved")
    return hidden_state


def trainer_state(trainer: "Trainer") -> dict[str, Any]:
    """Returns everything that is required to continue the run, with any number of processes.

    Within an epoch, `collect_state` must be called first if there are several processes.

    Returns:
        "model", "optimizer", "average" and "short_average": tensors by name; "hidden_state": lists
        of tensors by layer; "train_state": JSON values, including "loss_scaler" and "averaged",
        the number of iterates in each average.
    """
    scaler, averages = trainer.precision.scaler, trainer.averages
    return {
        "model": dict(trainer.model.state_dict()),
        **averages.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "hidden_state": _global_hidden_state(trainer),
        "train_state": {
            **trainer.train_state.as_dict(),
            "loss_scaler": scaler.state_dict() if scaler else {},
            "averaged": averages.counts(),
        },
    }


def restore_trainer(trainer: "Trainer", saved: dict[str, Any]) -> None:
    """Restores the state that `trainer_state` of another trainer returned.

    Raises:
        StructureMismatchError: if a part is missing, unknown, or does not match this trainer.
            Only the optimizer state may have changed.
    """
    scaler, config = trainer.precision.scaler, trainer.config
    varying = {*NAMES, "optimizer", "train_state"}
    check_structure(trainer_state(trainer), saved, varying=varying)
    saved_state = dict(saved["train_state"])
    saved_scaler, counts = saved_state.pop("loss_scaler", None), saved_state.pop("averaged", None)
    # The precision may change when a run is resumed. A new scaler starts with its defaults.
    expected = scaler.state_dict() if scaler and saved_scaler else {}
    if scaler or not saved_scaler:
        check_structure(expected, saved_scaler, "train_state.loss_scaler")
    train_state = TrainState.from_dict(saved_state)
    check_progress(train_state, config, trainer.training_text)
    saved_averages = {name: saved[name] for name in NAMES}
    check_averages(config.average, saved["model"], saved_averages, counts, train_state.step)
    # Only a run in fp16 can contain steps without an update.
    has_updated = train_state.step > 0 and not saved_scaler
    if has_updated and not saved["optimizer"] and not isinstance(trainer.optimizer, SGD):
        raise StructureMismatchError("optimizer: missing")
    trainer.optimizer.load_state_dict(saved["optimizer"])
    trainer.model.load_state_dict(saved["model"])
    trainer.averages.load_state_dict(saved_averages, counts)
    if scaler and saved_scaler:
        scaler.load_state_dict(saved_scaler)
    device = trainer.precision.device
    trainer.hidden_state = tuple(
        tuple(part[trainer.rows].to(device) for part in layer) for layer in saved["hidden_state"]
    )
    trainer.train_state = train_state
