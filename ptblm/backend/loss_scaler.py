"""Dynamic loss scaling for fp16 (Micikevicius et al. 2018, "Mixed Precision Training", 3.2).

fp16 overflows above 65,504 and underflows below 6e-8. The loss is therefore scaled up before the
backward pass, and the gradients are scaled down before the update. When a gradient overflows, the
update is skipped and the scale is halved; after many steps without overflow it is doubled.
"""

_INITIAL_SCALE = 2.0**16
_MIN_SCALE = 2.0**-10
_MAX_SCALE = 2.0**24
_STEPS_BEFORE_DOUBLING = 2000


class LossScaler:
    """A loss scale that adapts to the gradients."""

    def __init__(self) -> None:
        self.scale = _INITIAL_SCALE
        self.good_steps = 0

    @property
    def has_failed(self) -> bool:
        """Whether gradients overflowed even at the lowest scale, so that the run has diverged."""
        return self.scale < _MIN_SCALE

    def update(self, *, overflowed: bool) -> None:
        """Adapts the scale after a step."""
        if overflowed:
            self.scale /= 2
            self.good_steps = 0
            return
        self.good_steps += 1
        if self.good_steps == _STEPS_BEFORE_DOUBLING:
            self.scale = min(2 * self.scale, _MAX_SCALE)
            self.good_steps = 0

    def state_dict(self) -> dict[str, float | int]:
        """Returns the state to save."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, saved: dict[str, float | int]) -> None:
        """Restores the state that `state_dict` returned."""
        self.scale = float(saved["scale"])
        self.good_steps = int(saved["good_steps"])
