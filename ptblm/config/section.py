"""Base classes of the schema: sections of keys, and variants such as cells and optimizers."""

from typing import Any

from pydantic import BaseModel, ConfigDict

# Larger values would soon overflow fp32.
LARGEST = 1e30


class Section(BaseModel):
    """A group of keys: frozen, without unknown keys, type conversions, NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Variant(Section):
    """One choice for a key, for instance one cell; the other fields are its options.

    Attributes:
        type: name of the variant.
    """

    type: str

    @property
    def options(self) -> dict[str, Any]:
        """The options of the variant, by name."""
        return self.model_dump(exclude={"type"})


def expand_variant(value: Any, default_type: str) -> Any:
    """Returns a variant as a mapping with a `type`.

    Args:
        value: the name of a variant, or a mapping of its options; anything else is returned
            as it is.
        default_type: the variant that a mapping without a `type` describes.
    """
    if isinstance(value, str):
        return {"type": value}
    if isinstance(value, dict) and "type" not in value:
        return {"type": default_type, **value}
    return value


def variant_type(value: Any) -> str:
    """Returns the name of a variant, given as a mapping or as an object."""
    name = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return name if isinstance(name, str) else ""
