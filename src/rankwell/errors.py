"""Everything Rankwell raises on bad input.

::

    RankwellError
    ├── InputError       tensors or arguments that break a contract      (also a ValueError)
    ├── DataError        a file or table that cannot be read as asked    (also a ValueError)
    ├── ConfigError      an unknown option, or a value of the wrong type (also a ValueError)
    ├── UnknownName      a name that no registry holds                   (also a LookupError)
    ├── RunError         a run folder that exists, is corrupt or belongs to another run
    └── MissingExtra     an optional dependency that is not installed    (also an ImportError)

Each message says what must hold, what was given, and what to do. The command line prints it and exits with code 2.
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType, ModuleType

__all__ = [
    "ConfigError",
    "DataError",
    "InputError",
    "MissingExtra",
    "RankwellError",
    "RunError",
    "UnknownName",
    "nearest",
    "require",
]


class RankwellError(Exception):
    """The root: catch this to catch everything that Rankwell raises on purpose."""


class InputError(RankwellError, ValueError):
    """Tensors or arguments that break a contract."""


class DataError(RankwellError, ValueError):
    """A file or table that cannot be read as asked; the message names file and line where there is one."""


class ConfigError(RankwellError, ValueError):
    """An unknown option, or a value of the wrong type."""


class RunError(RankwellError):
    """A run folder that exists already, is corrupt, or belongs to another run."""


class MissingExtra(RankwellError, ImportError):
    """An optional dependency that is not installed; the message names the extra."""


class UnknownName(RankwellError, LookupError):
    """A name that is not registered; offers the nearest one.

    >>> str(UnknownName("loss", "sofmax", ["softmax", "hinge"]))
    "unknown loss 'sofmax'. Did you mean 'softmax'?"

    ``elsewhere`` are names that others use for the same, with ours.

    >>> str(UnknownName("loss", "RankNet", ["logistic"], {"ranknet": "logistic"}))
    "unknown loss 'RankNet': it is called 'logistic' here."
    """

    def __init__(
        self, what: str, name: str, known: Iterable[str], elsewhere: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        here = elsewhere.get(name.lower().replace("-", "_").removesuffix("_loss"))
        says = f". {nearest(name, known)}" if here is None else f": it is called {here!r} here."
        super().__init__(f"unknown {what} {name!r}{says}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the known name closest to ``name``, or lists the known ones.

    >>> nearest("margn", ["margin", "weight"])
    "Did you mean 'margin'?"
    >>> nearest("zzz", ["margin", "weight"])
    'Known: margin, weight.'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(known)}." if known else "There are none."


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(
            f"{package} is needed here and is not installed: pip install 'rankwell[{extra}]'."
        ) from error
