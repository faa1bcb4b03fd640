"""Libraries that only an export needs."""

import importlib
from types import ModuleType

from speechbrain_sumra.peft_adapters import MissingExtraError


def import_extra(name: str) -> ModuleType:
    """A module of the extra ``[export]``.

    Arguments
    ---------
    name : str
        Its full name.

    Raises
    ------
    MissingExtraError
        If it is not installed; the message says how to install it.

    Example
    -------
    >>> import_extra("no_such_library.converters")
    Traceback (most recent call last):
        ...
    speechbrain_sumra.peft_adapters.MissingExtraError: This export needs \
no_such_library, which is not installed: pip install 'speechbrain-sumra[export]'
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"This export needs {name.split('.')[0]}, which is not installed: "
            "pip install 'speechbrain-sumra[export]'"
        ) from error
