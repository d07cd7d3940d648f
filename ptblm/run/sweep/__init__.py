"""Sweeps: workers draw configs with Optuna and train each one as a separate run."""

from importlib.util import find_spec

from ptblm.errors import UsageError


def check_optuna() -> None:
    """Checks, before a module of this package is imported, that Optuna is installed.

    Raises:
        UsageError: if it is not.
    """
    if find_spec("optuna") is None:
        raise UsageError("sweeps require the optuna package", hint="pip install 'ptblm[sweep]'")
