"""Base classes of the schema: sections of keys, and variants such as cells and optimizers."""

from typing import Any

from pydantic import BaseModel, ConfigDict

# The largest absolute value of a key. Larger values quickly overflow fp32.
LARGEST = 1e30


class Section(BaseModel):
    """A group of config keys.

    Instances are frozen. Unknown keys, type conversions, NaN and infinity are rejected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Variant(Section):
    """One of several choices for a key, such as a cell. The other fields are its options.

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
        value: the name of a variant, or a mapping of its options; any other value is
            returned unchanged.
        default_type: name of the variant for a mapping without a `type`.
    """
    if isinstance(value, str):
        return {"type": value}
    if isinstance(value, dict) and "type" not in value:
        return {"type": default_type, **value}
    return value


def variant_type(value: Any) -> str:
    """Returns the name of a variant that is given as a mapping or an object."""
    name = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return name if isinstance(name, str) else ""
