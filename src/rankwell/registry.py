"""Names for functions and classes: what the command line, the documentation, the laws and the benchmarks iterate over.

A registry is a dictionary with checks at import. Registration carries facts, not prose; the prose is the docstring.
"""

import functools
import importlib.metadata
import importlib.util
import inspect
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Annotated, Any, Generic, Literal, TypeVar

from rankwell.errors import ConfigError, RankwellError, UnknownName
from rankwell.types import Alignment

__all__ = ["Entry", "Input", "Parameter", "Registry", "Search"]

F = TypeVar("F", bound=Callable[..., Any])

_FILES: dict[Path, ModuleType] = {}
"""Users' files that have been run: once, whichever registries they enter something in."""


@dataclass(frozen=True)
class Search:
    """Where tuning looks for a parameter: ``Annotated[float, Search(0.01, 1.0, log=True)]``.

    An ``int`` takes whole numbers, a tuple of numbers the range for each of its elements. ``Search()``, without a range, is
    for a ``Literal`` or a ``bool``: all its values.
    """

    low: float = -math.inf
    high: float = math.inf
    log: bool = False
    ascending: bool = False
    """Whether the elements of a tuple are put in order, smallest first, since another order says the same."""

    def __str__(self) -> str:
        if math.isinf(self.low):
            return "all values"
        return f"{self.low} … {self.high}{', log' if self.log else ''}{', ascending' if self.ascending else ''}"


@dataclass(frozen=True)
class Parameter:
    """An own parameter of an entry: what a person may set."""

    name: str
    annotation: Any
    default: Any
    search: Search | None = None


@dataclass(frozen=True)
class Input:
    """A declared extra input: a tensor (or, of alignment scalar, a number) beside the scores that the data knows.

    It is None by default and no parameter: neither the command line nor tuning shows it.
    """

    alignment: Alignment
    """What it lies along: ``list`` (one a list, row or query), ``item`` (one a score of a list, a negative of a row, an item
    of embeddings), ``positive`` (one a positive of a row), ``pair`` (``[q, m]``), ``catalogue`` (one a code of the
    catalogue), ``scalar``."""
    holds: Literal["number", "share", "id", "count", "flag"] = "number"
    """Any number, a number in (0, 1], an id (equal or not), a whole number above zero, or true and false."""
    required: bool = False
    """Whether the loss cannot do without."""


@dataclass(frozen=True)
class Entry(Generic[F]):
    """A registered function or class, with its facts."""

    name: str
    function: F
    kind: str
    parameters: Mapping[str, Parameter]
    paper: str | None = None
    complexity: str | None = None
    inputs: Mapping[str, Input] = field(default_factory=dict)
    softmax: bool = False
    """True where the loss estimates a softmax over the catalogue, so that a sampler's log q corrects it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)

    @property
    def family(self) -> str:
        """The file that it is written in."""
        module: str = _unwrapped(self.function).__module__
        return module.rpartition(".")[2]

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


class Registry(Generic[F]):
    """A dictionary of entries of one sort (losses, metrics, samplers, models), filled by decorators.

    ``contract`` maps each kind to the parameters that its functions share, in order; every other parameter of a function
    is either a declared extra input or its own, and own parameters must be annotated and have a default; keyword-only, too,
    where the functions of a kind share some. ``elsewhere`` are other libraries' names for entries: an error that meets one
    says what it is called here.
    """

    def __init__(
        self,
        what: str,
        contract: Mapping[str, tuple[str, ...]],
        *,
        suffix: str = "",
        elsewhere: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.what = what
        self.contract = contract
        self.suffix = suffix
        self.elsewhere = elsewhere
        self._entries: dict[str, Entry[F]] = {}
        self._looked_outside = False

    def register(
        self,
        kind: str,
        *,
        name: str | None = None,
        paper: str | None = None,
        complexity: str | None = None,
        inputs: Mapping[str, Input] | None = None,
        softmax: bool = False,
    ) -> Callable[[F], F]:
        """Decorate a function or class to enter it; it comes back unchanged."""

        def enter(function: F) -> F:
            entry_name = name or function.__name__.removesuffix(self.suffix)
            there = self._entries.get(entry_name)
            # A module that is loaded again, a cell of a notebook that is run again, enters the same function anew.
            if there is not None and _place(there.function) != _place(function):
                raise ConfigError(f"{self.what} {entry_name!r} is registered already: give yours another name.")
            extra = dict(inputs or {})
            parameters = _own_parameters(function, (*self.contract[kind], *extra), f"{self.what} {entry_name!r}")
            self._entries[entry_name] = Entry(entry_name, function, kind, parameters, paper, complexity, extra, softmax)
            return function

        return enter

    @property
    def plural(self) -> str:
        """``losses``, ``batches``, ``samplers``: the group of entry points and the command are called so."""
        return f"{self.what}es" if self.what.endswith(("s", "ch")) else f"{self.what}s"

    def __getitem__(self, name: str) -> Entry[F]:
        """The entry of that name; ``FILE.py:function`` loads one from a file, which must register it."""
        entry = self.find(name)
        if entry is not None:
            return entry
        if ".py:" not in name:
            raise UnknownName(self.what, name, self._entries, self.elsewhere)
        decorators = [
            f"@{kind}{self.suffix}" if self.suffix else f'@{self.plural.upper()}.register("{kind}")'
            for kind in self.contract
        ]
        raise ConfigError(
            f"{self.what} {name!r}: {name.rpartition(':')[2]} is not registered:"
            f" decorate it with {' or '.join(decorators)}."
        )

    def find(self, name: str) -> Entry[F] | None:
        """The entry of that name, or None. A file of ``FILE.py:function`` is run, once, and must have that function."""
        if ".py:" in name:
            function = self.from_file(name)
            return next((entry for entry in self._entries.values() if entry.function is function), None)
        if name not in self._entries:
            self._load_entry_points()
        return self._entries.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry[F]]:
        self._load_entry_points()
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def names(self, kind: str | None = None) -> list[str]:
        """The registered names, in order of registration, of one kind or of all."""
        return [entry.name for entry in self if kind in (None, entry.kind)]

    def families(self) -> dict[str, list[Entry[F]]]:
        """The entries by the file that they are written in, in order of registration."""
        found: dict[str, list[Entry[F]]] = {}
        for entry in self:
            found.setdefault(entry.family, []).append(entry)
        return found

    def of(self, function: Callable[..., Any]) -> Entry[F]:
        """The entry that holds this function."""
        for entry in self._entries.values():
            if entry.function is function:
                return entry
        raise UnknownName(self.what, getattr(function, "__name__", repr(function)), self._entries)

    def _load_entry_points(self) -> None:
        """Import, once, what installed packages offer in the group ``rankwell.<what>s``; importing registers it."""
        if self._looked_outside:
            return
        self._looked_outside = True  # beforehand: what is imported may look around here itself
        for point in importlib.metadata.entry_points(group=f"rankwell.{self.plural}"):
            try:
                point.load()
            except Exception as error:
                raise ConfigError(
                    f"{self.what} {point.name!r} of an installed package cannot be loaded: {_reason(error)}. "
                    f"Correct or remove the package that offers {point.value}."
                ) from error

    def from_file(self, text: str) -> Any:
        """Run a user's file, once, and take the function of the name behind the colon, registered or not."""
        path, _, function_name = text.rpartition(":")
        file = Path(path).resolve()
        if not file.is_file():
            raise ConfigError(f"{text}: there is no file {path!r}.")
        if file not in _FILES:
            spec = importlib.util.spec_from_file_location(file.stem, file)
            if spec is None or spec.loader is None:
                raise ConfigError(f"{text}: {path!r} is not a Python file.")
            module = importlib.util.module_from_spec(spec)
            before = dict(self._entries)
            try:
                spec.loader.exec_module(module)
            except Exception as error:
                self._entries = before
                raise ConfigError(f"{file}: {_reason(error)}. Correct the file.") from error
            _FILES[file] = module
        module = _FILES[file]
        if not hasattr(module, function_name):
            callables = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
            raise UnknownName(f"function in {path}:", function_name, callables)
        return getattr(module, function_name)


def _own_parameters(function: Callable[..., Any], shared: tuple[str, ...], what: str) -> dict[str, Parameter]:
    """The parameters that are the function's own, checked: keyword-only, annotated, with a default."""
    signature = inspect.signature(function).parameters
    missing = [name for name in shared if name not in signature]
    if missing:
        raise ConfigError(f"{what} must take {', '.join(shared)}: it lacks {', '.join(missing)}.")
    own = {}
    hints: dict[str, Any] = {}
    for parameter in signature.values():
        if parameter.name in shared:
            continue
        if (
            (shared and parameter.kind is not parameter.KEYWORD_ONLY)
            or parameter.annotation is parameter.empty
            or parameter.default is parameter.empty
        ):
            raise ConfigError(
                f"{what}: own parameter {parameter.name!r} must be keyword-only, typed and have a default."
            )
        hints = hints or typing.get_type_hints(_callable(function), include_extras=True)
        annotation = hints[parameter.name]
        search = None
        if typing.get_origin(annotation) is Annotated:
            search = next((extra for extra in typing.get_args(annotation)[1:] if isinstance(extra, Search)), None)
        own[parameter.name] = Parameter(parameter.name, annotation, parameter.default, search)
    return own


def _reason(error: Exception) -> str:
    """What another's code raised, in one line."""
    said = " ".join(str(error).split()).rstrip(".")
    return said if isinstance(error, RankwellError) else f"{type(error).__name__}: {said}".removesuffix(": ")


def _place(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _unwrapped(function: Callable[..., Any]) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _callable(function: Callable[..., Any]) -> Callable[..., Any]:
    """What carries the annotations: the function, or a class's ``__init__``."""
    return function.__init__ if inspect.isclass(function) else function
