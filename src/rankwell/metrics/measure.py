"""Measures: a metric with its cut-off and parameters as a value whose text is its name everywhere (``ndcg@10``)."""

import contextlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal, final, get_args, get_origin

import torch
from jaxtyping import Int
from torch import Tensor

from rankwell.errors import ConfigError, InputError, UnknownName, nearest
from rankwell.metrics.ideal import IdealLabels
from rankwell.metrics.presets import preset as conventions_of
from rankwell.metrics.registry import BODIES, METRICS, RESULTS, checked_cut, filled_by_column, ratios, settle
from rankwell.registry import Entry, Parameter
from rankwell.types import Empty, Labels, Mask, Offsets, Reduction, Scores, Ties, Values, Weights

__all__ = ["Measure", "evaluate_measures"]

ALIASES = MappingProxyType(
    {
        "map": "ap",
        "rr": "mrr",
        "recip_rank": "mrr",
        "r": "recall",
        "p": "precision",
        "hit": "hit_rate",
        "hr": "hit_rate",
        "itemcoverage": "coverage",
        "giniindex": "gini",
        "success": "hit_rate",
        "roc_auc": "auc",
        "partial_auc": "pauc",
        "rprec": "r_precision",
        "setf": "f1",
        "set_f": "f1",
        "setp": "precision",
        "set_p": "precision",
        "setr": "recall",
        "set_recall": "recall",
        "tau": "kendall_tau",
        "kendalltau": "kendall_tau",
        "spearmanr": "spearman",
    }
)
"""Other names, in lower case: case is ignored."""

CONVENTIONS: Mapping[str, Parameter] = MappingProxyType(
    {"ties": Parameter("ties", Ties, "expected"), "empty": Parameter("empty", Empty, "skip")}
)
"""Arguments of the contract that a measure may fix beside its own parameters."""

COLUMN = Parameter("column", str, None)
"""What a measure fixes beside its own parameters where a column of items fills an input of the metric."""

_COLUMN_NAME = re.compile(r"(?!\s)[^(),]+(?<!\s)")
"""Names that a measure's text holds whole."""

_UNCUT = {"whole": "needs the whole list", "uncut": "has a depth of its own"}

_SHAPE = re.compile(r"(?P<name>[^()@]+)(?:\((?P<own>[^()]*)\))?(?:@(?P<k>[^()@]*))?")

_AT_R: Mapping[str, str] = MappingProxyType({"ap": "ap_at_r", "precision": "r_precision", "recall": "r_precision"})
"""Metrics at R, the number of relevant items: ``map@r``."""

_TREC = re.compile(r"(ndcg|map)_cut_(\d+)|(p|recall|success)_(\d+)", re.IGNORECASE)
"""How pytrec_eval writes a name and a cut-off."""


@final
@dataclass(frozen=True)
class Measure:
    """A configured metric. Its text gives it back: ``Measure.parse(str(m)) == m``.

    ``parameters`` are the metric's own (``gain``, ``rel``) and the conventions ``ties`` and ``empty``, by name; those at
    their default are left out, so that equal measures are equal values. A measure of recommended items (``coverage@20``)
    has no conventions and always a cut-off; where it needs categories or vectors of items, ``column`` names them
    (``diversity(column=genres)@20``).
    """

    name: str
    k: int | None = None
    parameters: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        entry = _entry(self.name)
        try:
            object.__setattr__(self, "k", checked_cut(self.k))
        except InputError as error:
            raise ConfigError(f"{self.name}: the cut-off {error}") from None
        if self.k is not None and entry.kind in _UNCUT:
            raise ConfigError(f"{entry.name} {_UNCUT[entry.kind]}: it takes no cut-off, got {entry.name}@{self.k}.")
        if self.k is None and entry.kind in RESULTS:
            raise ConfigError(
                f"{entry.name} is of recommended items: say how many are recommended to each user, as {entry.name}@20."
            )
        known = _settable(entry)
        given = {name: _value(entry.name, name, value, known) for name, value in self.parameters}
        if isinstance(rel := given.get("rel"), float) and not rel > 0:
            raise ConfigError(f"{entry.name}: rel must be above 0, the label of what is not relevant: got {rel:g}.")
        if known.get("column") is COLUMN and not _COLUMN_NAME.fullmatch(column := given.get("column", "named")):
            raise ConfigError(
                f"{entry.name}: a column's name must have no comma, parenthesis or outer space: got {column!r}. Rename it."
            )
        own = tuple(sorted((name, value) for name, value in given.items() if value != known[name].default))
        if entry.name in BODIES and own:
            _try(entry, dict(own))
        object.__setattr__(self, "name", entry.name)
        object.__setattr__(self, "parameters", own)

    @classmethod
    def parse(cls, text: str, *, preset: str | None = None) -> "Measure":
        """Read ``name``, ``name@k`` or ``name(parameter=value, …)@k``; a preset fills in what the text does not say.

        pytrec_eval's names are read too (``ndcg_cut_10``, ``P_10``); its values are those of the preset ``trec``. ``map@r`` and
        ``P@r`` are at the number of relevant items.

        >>> Measure.parse("nDCG@10")
        Measure(name='ndcg', k=10, parameters=())
        >>> str(Measure.parse("P(rel=2)@10"))
        'precision(rel=2)@10'
        >>> str(Measure.parse("ndcg@10", preset="trec"))
        'ndcg(empty=zero,gain=linear,ties=order)@10'
        """
        match = _SHAPE.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"a measure is written name, name@k or name(parameter=value)@k: got {text!r}.")
        name, own, cut = match.group("name").strip(), match.group("own"), match.group("k")
        trec = _TREC.fullmatch(name) if cut is None else None
        if trec is not None:
            name, cut = filter(None, trec.groups())
        entry = _entry(name)
        if cut is not None and cut.lower() == "r" and entry.name in _AT_R:
            entry, cut = _entry(_AT_R[entry.name]), None
        if cut is not None and not (cut.isdecimal() and int(cut) > 0):
            raise ConfigError(
                f"measure {text!r}: the cut-off behind @ must be a whole number of at least 1: got {cut!r}."
            )
        given: dict[str, Any] = {}
        if preset is not None:
            given = {key: value for key, value in conventions_of(preset).items() if key in _settable(entry)}
        for part in own.split(",") if own is not None else ():
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if not (key and equals and value):
                raise ConfigError(f"measure {text!r}: parameters are written name=value: got {part.strip()!r}.")
            given[key] = value
        return cls(entry.name, None if cut is None else int(cut), tuple(given.items()))

    @property
    def kind(self) -> str:
        """The metric's: in :data:`~rankwell.metrics.registry.RESULTS` where it is of recommended items."""
        return METRICS[self.name].kind

    @property
    def one_figure(self) -> bool:
        """Whether it is one number of all users together (``coverage``), not a mean over users."""
        return self.kind == "catalogue"

    @property
    def column(self) -> str | None:
        """The column of items that fills an input of the metric, where the measure names one."""
        return dict(self.parameters).get(COLUMN.name) if _settable(METRICS[self.name]).get("column") is COLUMN else None

    @property
    def settings(self) -> dict[str, Any]:
        """Parameters and conventions with those at their default, by name."""
        return {name: known.default for name, known in _settable(_entry(self.name)).items()} | dict(self.parameters)

    def __str__(self) -> str:
        own = ",".join(f"{name}={_written(value)}" for name, value in self.parameters)
        return self.name + (f"({own})" if own else "") + (f"@{self.k}" if self.k else "")

    def __call__(self, scores: Scores, labels: Labels, **contract: Any) -> Values:
        """The metric's value; arguments given here override those that the measure fixes.

        Raises :class:`ConfigError` for a measure of recommended items: see :func:`~rankwell.evaluation.measure_recommended`.
        """
        _check_scored(self)
        return METRICS[self.name].function(scores, labels, **{"k": self.k, **dict(self.parameters), **contract})


def _entry(name: str) -> Entry[Any]:
    """The metric of that name or alias; names of files (``my.py:metric``) keep their case."""
    lower = name.lower()
    lower = ALIASES.get(lower, lower)
    try:
        return METRICS[lower if lower in METRICS else name]
    except UnknownName:
        raise UnknownName("metric", name, [*METRICS.names(), *ALIASES]) from None


def _check_scored(measure: Measure) -> None:
    """Raise :class:`ConfigError` for a measure that scores and labels do not tell."""
    if measure.kind in RESULTS:
        raise ConfigError(
            f"{measure} is a metric of recommended items, not of scores and labels:"
            f" call rankwell.metrics.{measure.name}(items, …)."
        )


def _try(entry: Entry[Any], own: dict[str, Any]) -> None:
    """Raise for a parameter out of range now, not after hours of training: two items are enough to find out."""
    try:
        entry(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]), **own)
    except InputError as error:
        raise ConfigError(f"{entry.name}: {error}") from None


def _settable(entry: Entry[Any]) -> dict[str, Parameter]:
    if entry.kind not in RESULTS:
        return {**CONVENTIONS, **entry.parameters}
    return {**entry.parameters, **({"column": COLUMN} if filled_by_column(entry) else {})}


def _value(metric: str, name: str, value: Any, known: Mapping[str, Parameter]) -> Any:
    """A parameter's value, read from text where it is text, of the type that the metric declares."""
    if name not in known:
        raise ConfigError(f"{metric} has no parameter {name!r}. {nearest(name, known)}")
    kind = known[name].annotation
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    choices = get_args(kind) if get_origin(kind) is Literal else _READERS.get(kind)
    if isinstance(choices, tuple) and value in choices:
        return value
    if callable(choices):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return choices(value)
    wanted = ", ".join(map(repr, choices)) if isinstance(choices, tuple) else getattr(kind, "__name__", str(kind))
    raise ConfigError(f"{metric}: {name} must be {wanted}: got {value!r}.")


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _whole(value: Any) -> int:
    return int(str(value))


_READERS: Mapping[Any, Any] = MappingProxyType(
    {float: _finite, int: _whole, str: str, bool: {"true": True, "false": False, True: True, False: False}.__getitem__}
)


def _written(value: Any) -> str:
    """Text that reads back as the same value."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def evaluate_measures(
    measures: Iterable[Measure | str],
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "none",
    ideal: IdealLabels | None = None,
    uncounted: float = 0.0,
    unlisted: Int[Tensor, "*batch"] | None = None,
) -> dict[str, Tensor]:
    """Several measures on one ranking: each list is sorted once.

    Values by ``str(measure)``, equal to the measure's own call. Ties and empty lists are met as each measure says
    (``ndcg(ties=order)@10``, or by a preset). With
    ``reduction="none"`` lists that do not count are ``uncounted``. Time O(n log n) for all, and O(n) for each.

    ``unlisted`` is for dense lists that were cut inside a tie, and measures with a cut-off: the number of irrelevant items that
    score as much as the last of each list and are not in it. Such a list must hold at least k items, and all relevant
    ones of that score.

    Raises :class:`ConfigError` for a measure of recommended items: scores and labels do not tell it.

    >>> import torch
    >>> evaluate_measures(["mrr", "P@2"], torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[0.0, 1.0, 1.0]]))
    {'mrr': tensor([0.5000]), 'precision@2': tensor([0.5000])}
    """
    chosen = [Measure.parse(measure) if isinstance(measure, str) else measure for measure in measures]
    for measure in chosen:
        _check_scored(measure)
    if unlisted is not None and (offsets is not None or not all(m.k for m in chosen)):
        raise InputError(
            "unlisted goes with dense lists and measures with a cut-off: got offsets, or a measure without one."
        )
    call = {"where": where, "weights": weights, "offsets": offsets, "ideal": ideal}
    # Metrics from outside need no body: they rank for themselves.
    outside = [m for m in chosen if m.name not in BODIES]
    values = {}
    if outside:
        lists, whole = ((scores, labels), call) if unlisted is None else _written_out(scores, labels, unlisted, call)
        values = {str(m): m(*lists, reduction=reduction, **whole) for m in outside}
        if uncounted != 0 and reduction == "none":
            values = {str(m): _marked(m, values[str(m)], uncounted, *lists, whole) for m in outside}
    for ties in get_args(Ties):
        group = [m for m in chosen if m.name in BODIES and m.settings["ties"] == ties]
        own = {**call, "ties": ties, "unlisted": unlisted}
        found = _on_one_ranking(group, scores, labels, reduction, uncounted, **own) if group else []
        values |= zip(map(str, group), found, strict=True)
    return {str(measure): values[str(measure)] for measure in chosen}


def _written_out(
    scores: Tensor, labels: Tensor, unlisted: Tensor, call: Mapping[str, Any]
) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    """Lists with the items that were not listed, and the call for them."""
    where = torch.ones_like(scores, dtype=torch.bool) if call["where"] is None else call["where"]
    last = torch.where(where, scores, torch.inf).amin(-1, keepdim=True)
    more = torch.arange(int(unlisted.max()), device=scores.device) < unlisted[..., None]
    lists = (
        torch.cat([scores, last.expand(more.shape)], -1),
        torch.cat([labels, torch.zeros_like(labels[..., :1]).expand(more.shape)], -1),
    )
    return lists, {**call, "where": torch.cat([where, more], -1)}


def _on_one_ranking(
    group: list[Measure], scores: Scores, labels: Labels, reduction: Reduction, uncounted: float, **ranking: Any
) -> list[Tensor]:
    own = [{name: value for name, value in m.parameters if name not in CONVENTIONS} for m in group]
    bodies = [partial(BODIES[m.name], k=m.k, **parameters) for m, parameters in zip(group, own, strict=True)]
    found, present = ratios(bodies, scores, labels, **ranking)
    settled = []
    for m, ratio in zip(group, found, strict=True):
        values = settle(ratio, present, m.settings["empty"], reduction)
        if uncounted != 0 and reduction == "none":
            some = ratio.denominator > 0
            values = torch.where(some if m.settings["empty"] == "skip" else some | present, values, uncounted)
        settled.append(values)
    return settled


def _marked(
    measure: Measure, values: Tensor, uncounted: float, scores: Scores, labels: Labels, call: Mapping[str, Any]
) -> Tensor:
    """Values of a metric from outside, with lists that do not count marked: ``empty`` tells which have no positives."""
    where, offsets = call["where"], call["offsets"]
    if where is not None and offsets is None:
        values = torch.where(where.any(-1), values, uncounted)
    if measure.settings["empty"] != "skip":
        return values
    zero, one = (measure(scores, labels, reduction="none", **call, empty=empty) for empty in ("zero", "one"))
    return torch.where(zero == one, values, uncounted)
