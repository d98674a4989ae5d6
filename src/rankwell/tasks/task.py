"""What a task is: one kind of ranking problem, from its files to its figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import polars as pl
from torch import Tensor, nn

from rankwell.data.batching import Batches
from rankwell.errors import ConfigError
from rankwell.evaluation import Evaluation
from rankwell.evaluation.top import Progress
from rankwell.metrics import Measure
from rankwell.metrics.registry import RESULTS
from rankwell.models import MODELS
from rankwell.registry import Entry
from rankwell.tasks.profile import Profile
from rankwell.tasks.settings import Config, Section, refuse_watching
from rankwell.training import Objective
from rankwell.types import FullRanker, Ragged

__all__ = ["Catalogue", "Data", "Description", "Newcomers", "Slice", "Task"]

P = TypeVar("P")


@dataclass(frozen=True, eq=False)
class Data(Generic[P]):
    """What a run trains on, chooses on and is judged on; all with the same vocabularies."""

    train: P
    """Everything but what the test holds."""
    fit: P
    """``train`` without what validation holds."""
    valid: P | None
    test: P
    notes: tuple[str, ...] = ()
    """What reading changed."""
    ideal: Tensor | None = None
    """True preferences, for generated data."""
    items: Any = None
    """Columns of items, where a file tells them."""
    users: Any = None
    """Columns of users likewise."""
    merged: int | None = None
    """Rows that repeated an earlier pair, where reading counts them."""


@dataclass(frozen=True)
class Description:
    """What data are like, for a screen: notes, and tables of names and values by their headings."""

    notes: tuple[str, ...]
    tables: Mapping[str, Sequence[tuple[str, str]]]


class Catalogue(NamedTuple):
    """Who may be recommended what: ids by code, and the items that each user knows."""

    user_ids: pl.Series
    item_ids: pl.Series
    known: Ragged
    ranker: FullRanker
    """The model, asked by the codes of users."""


class Newcomers(NamedTuple):
    """Files of users and items that training did not see."""

    history: Path | None = None
    """What new users did."""
    users: Path | None = None
    """What is known of new users."""
    items: Path | None = None
    """What is known of new items."""
    only_new: bool = False
    """Whether new items are ranked without those of training."""


class Slice(NamedTuple):
    """A further question to the test: who is asked about which part of it."""

    held_out: Any
    view: Callable[[nn.Module], nn.Module] = lambda model: model
    """What is judged, of a model."""


class Task(Generic[P]):
    """One kind of ranking problem: its data, its batches, its objective, and how a model of it is judged.

    Everything else is shared: losses, metrics, the training loop, run folders, commands. Nothing outside asks which task it
    has. ``P`` is a part of the data: what a model is trained on or judged on.
    """

    name: ClassVar[str]
    settings: ClassVar[type[Section]]
    """The section ``data`` of its configuration."""
    models: ClassVar[str]
    """The kind of its models."""
    sections: ClassVar[tuple[str, ...]] = ("model", "loss")
    """The sections that hold a name and that name's own parameters."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """What a configuration leaves open, where it is not what the sections say."""
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings that suit a loss, or a model, better than the defaults, by its name. A model's may name the loss."""
    unit: ClassVar[str]
    units: ClassVar[str]
    """What has one value of each measure: a user, a query; and several of them."""

    hints: ClassVar[Sequence[str]] = ()
    """What to try next, said after a run on generated data whose ideal is known; ``{call}`` is the program, ``{folder}`` the
    run's."""

    def loss(self, name: str) -> Entry[Any]:
        """The loss as this task calls it; :class:`ConfigError` for one that it cannot call."""
        raise NotImplementedError

    def implied(self, names: Mapping[str, str], given: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002
        """Sections that follow from the chosen names, empty ones for what is not needed; :class:`ConfigError` where something
        else was given."""
        if "sampler" not in self.sections:
            refuse_watching(given, f"task {self.name}")
        return {}

    def refuse(self, config: Config) -> None:
        """Raise :class:`ConfigError` where choices that are right one by one do not go together: a run would find out late."""

    def check(self, measure: Measure) -> Measure:
        """The measure; :class:`ConfigError` where these data could not be measured by it: by one of recommended items, unless
        the task says otherwise."""
        if measure.kind in RESULTS:
            raise ConfigError(
                f"{measure} is of items that are recommended out of a catalogue: task {self.name} recommends none, it has"
                " scores and labels alone. Take a measure of these, such as ndcg@10."
            )
        return measure

    def read(self, config: Config) -> Data[P]:
        """Read the files, and split them."""
        raise NotImplementedError

    def describe(self, config: Config) -> Description:
        """What the data are like, before anything is trained on them."""
        raise NotImplementedError

    def recognises(self, path: Path) -> bool:  # noqa: ARG002
        """Whether only this task reads such files."""
        return False

    def profile(self, data: Data[P]) -> Profile:
        """The same in words that all tasks share."""
        raise NotImplementedError

    def generate(self, folder: Path, seed: int) -> None:  # noqa: ARG002
        """Write generated data."""
        raise ConfigError(f"task {self.name} writes no generated data: train on 'synthetic' instead.")

    def model(self, config: Config, data: Data[P]) -> nn.Module:
        """The model, not yet initialised."""
        return MODELS[config.model["name"]].function(*self.sizes(data), **config.parameters("model"))

    def sizes(self, data: Data[P]) -> tuple[int, ...]:
        """What models are built from."""
        raise NotImplementedError

    def initialise(self, model: nn.Module, part: P, *, seed: int) -> None:
        """Give the model its start, or its fit, from a part of the data."""
        raise NotImplementedError

    def objective(self, config: Config, model: nn.Module, data: Data[P], part: P, held_out: P | None) -> Objective:
        """The loss on what the model says of batches of the part; ``held_out`` is what validation holds beside it."""
        raise NotImplementedError

    def batches(self, config: Config, data: Data[P], part: P) -> Batches[Any]:
        """How the part comes in batches."""
        raise NotImplementedError

    def judge(
        self,
        config: Config,
        model: nn.Module,
        measures: Sequence[Measure],
        known: P,
        held_out: P,
        progress: Progress | None = None,
        *,
        items: Any = None,
    ) -> Evaluation:
        """Measure the model on what is held out, for those who know what is known; ``items`` are the data's columns of items,
        which a measure may name."""
        raise NotImplementedError

    def baselines(self, config: Config, data: Data[P]) -> Mapping[str, nn.Module]:
        """What every figure is to be read against, ready to be judged."""
        raise NotImplementedError

    def slices(self, config: Config, data: Data[P]) -> Mapping[str, Slice]:  # noqa: ARG002
        """Parts of the test that get figures of their own, by name; none unless the data have them."""
        return {}

    def judge_slices(
        self,
        config: Config,
        rankers: Mapping[str, nn.Module],
        measures: Sequence[Measure],
        data: Data[P],
        progress: Progress | None = None,
    ) -> dict[str, dict[str, dict[str, float]]]:
        """Figures of each ranker in each of the slices, by measures of scores and labels.

        Those of recommended items are left out: a slice asks about a part of the test, and no part of what is recommended.
        """
        chosen = [measure for measure in measures if measure.kind not in RESULTS]
        return {
            question: {
                name: self.judge(config, view(ranker), chosen, data.train, held_out, progress).means()
                for name, ranker in rankers.items()
            }
            for question, (held_out, view) in (self.slices(config, data).items() if chosen else ())
        }

    def facts(self, data: Data[P]) -> dict[str, Any]:
        """Counts and a fingerprint, by which a resumed run knows its data."""
        raise NotImplementedError

    def rows(self, data: Data[P], evaluation: Evaluation) -> pl.DataFrame:
        """Who was judged: a row for each value of a measure."""
        raise NotImplementedError

    def memory(self, config: Config, data: Data[P]) -> dict[str, float]:
        """Predicted bytes, by what holds them, beside the library."""
        raise NotImplementedError

    def save(self, folder: Path, data: Data[P]) -> None:
        """Write what :meth:`load` needs."""
        raise NotImplementedError

    def load(self, folder: Path, config: Config) -> Data[P]:
        """What judging and serving a finished run need, without the original files."""
        raise NotImplementedError

    def score(
        self,
        config: Config,  # noqa: ARG002
        model: nn.Module,  # noqa: ARG002
        data: Data[P],  # noqa: ARG002
        paths: Sequence[Path],  # noqa: ARG002
        *,
        document: str | None = None,  # noqa: ARG002
        progress: Progress | None = None,  # noqa: ARG002
        notes: list[str] | None = None,  # noqa: ARG002
    ) -> pl.DataFrame:
        """Rank the documents of lists in new files: a row a document, the best of each query first.

        Columns are what is ranked for, what is ranked, ``rank`` and ``score``. What was left out is added to the ``notes``.
        """
        raise ConfigError(f"task {self.name} has no lists of documents to rank.")

    def catalogue(self, model: nn.Module, data: Data[P]) -> Catalogue:  # noqa: ARG002
        """Who may be recommended what."""
        raise ConfigError(f"task {self.name} has no catalogue to recommend from.")

    def catalogue_of_new(
        self,
        config: Config,  # noqa: ARG002
        model: nn.Module,  # noqa: ARG002
        data: Data[P],  # noqa: ARG002
        given: Newcomers,  # noqa: ARG002
    ) -> Catalogue:
        """The same for users or items that training did not see."""
        raise ConfigError(f"task {self.name} ranks no users or items that training did not see.")
