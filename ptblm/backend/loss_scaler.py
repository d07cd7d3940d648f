"""Loss scaling for fp16 (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2).

fp16 ends at 65,504 and loses what is below 6e-8, so the loss is scaled up before the backward
pass and the gradients down after it. The scale is halved when a gradient overflows, whose update
is then left out, and doubled after a long time without.
"""

_FIRST = 2.0**16
_SMALLEST = 2.0**-10
_LARGEST = 2.0**24
_STEPS_BEFORE_DOUBLING = 2000


class LossScaler:
    """A scale that follows the gradients."""

    def __init__(self) -> None:
        self.scale = _FIRST
        self.good_steps = 0

    def can_back_off(self) -> bool:
        """Whether an overflow can still be the scale's doing; else the run has diverged."""
        return self.scale > _SMALLEST

    def update(self, *, overflowed: bool) -> None:
        """Learns from one step."""
        if overflowed:
            self.scale /= 2
            self.good_steps = 0
            return
        self.good_steps += 1
        if self.good_steps == _STEPS_BEFORE_DOUBLING:
            self.scale = min(2 * self.scale, _LARGEST)
            self.good_steps = 0

    def state_dict(self) -> dict[str, float | int]:
        """What must be saved."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, saved: dict[str, float | int]) -> None:
        """Restores what `state_dict` gave."""
        self.scale = float(saved["scale"])
        self.good_steps = int(saved["good_steps"])
