"""What all sections of a config share."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

# Beyond this, fp32 precision soon ends in infinity.
LARGEST = 1e30


class Section(BaseModel):
    """Frozen, no unknown keys, no silent conversions, no key that would change nothing.

    Attributes:
        options: for a key that chooses, the keys that are only for some of its choices, and for
            which. They stand after it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    options: ClassVar[dict[str, dict[str, tuple[str, ...]]]] = {}

    @field_validator("*")
    @classmethod
    def _has_use(cls, value: Any, info: ValidationInfo) -> Any:
        key = info.field_name or ""
        for chooser, options in cls.options.items():
            chosen = info.data.get(chooser)  # None where that is wrong already
            if chosen is None or chosen in options.get(key, (chosen,)):
                continue
            if value != cls.model_fields[key].default:
                raise PydanticCustomError(
                    "no_use",
                    "is for {chooser} {choices} only, and {chooser} is {chosen}",
                    {"chooser": chooser, "choices": " or ".join(options[key]), "chosen": chosen},
                )
        return value
