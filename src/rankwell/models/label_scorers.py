"""Models of labelled rows: a score of every label for each row, from the row's features."""

import itertools
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.lists import check_count, check_positive
from rankwell.models.registry import MODELS, check_known
from rankwell.models.tower import check_features
from rankwell.registry import Search
from rankwell.types import Features, Ragged

__all__ = ["LabelMLP", "LabelPopularity", "LabelRidge", "LabelVectors"]

START = 2
"""Keeps the random numbers of the start apart from those drawn for other purposes with the same seed."""


def _log_odds(labels: Ragged, num_labels: int) -> Float[Tensor, " labels"]:
    """Of a row's having each label, with one row more that has it and one that has not."""
    counts = torch.bincount(labels.values, minlength=num_labels).double()
    return ((counts + 1) / (len(labels.offsets) - counts)).log().float()


class _LabelScorer(nn.Module):
    """What models of labelled rows share: their sizes, and numbers on one scale."""

    trainable: ClassVar[bool] = True
    mean: Tensor
    scale: Tensor

    def __init__(self, num_numbers: int, num_categories: int, num_labels: int) -> None:
        super().__init__()
        check_count(num_labels, "num_labels")
        self.num_numbers, self.num_categories, self.num_labels = num_numbers, num_categories, num_labels
        self.register_buffer("mean", torch.zeros(num_numbers))
        self.register_buffer("scale", torch.zeros(num_numbers))

    @torch.no_grad()
    def _learn_scale(self, features: Features, labels: Ragged) -> None:
        """Mean and deviation of the numbers that are there; a number that does not vary becomes 0."""
        check_features(features, len(labels.offsets) - 1)
        check_known(labels, len(features.numbers), self.num_labels)
        numbers = features.numbers.double()
        there = numbers.isfinite()
        counts = there.sum(0).clamp(min=1)
        mean = torch.where(there, numbers, 0).sum(0) / counts
        deviation = (torch.where(there, numbers - mean, 0).square().sum(0) / counts).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 1e-9, 1 / deviation, 0.0))

    def _scaled(self, features: Features) -> Float[Tensor, "n f"]:
        """Numbers on one scale; a missing one is the mean, 0."""
        given = (features.numbers.shape[1], features.num_categories)
        if given != (self.num_numbers, self.num_categories):
            raise InputError(
                f"features must have {self.num_numbers} numbers and {self.num_categories} categories, as in training: got"
                f" {given[0]} and {given[1]}. Encode them as those of training were."
            )
        return ((features.numbers - self.mean) * self.scale).nan_to_num(0.0, 0.0, 0.0)


class _Network(_LabelScorer):
    """Scaled numbers and the mean of categories' vectors, hidden layers (the last one linear, if asked for), the labels."""

    def __init__(
        self, sizes: tuple[int, int, int], hidden: tuple[int, ...], dropout: float, *, prior: bool, linear_last: bool
    ) -> None:
        super().__init__(*sizes)
        for width in hidden:
            check_count(width, "widths")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be in [0, 1): got {dropout}.")
        self.dropout, self.prior, self.linear_last = dropout, prior, linear_last
        num_numbers, num_categories, num_labels = sizes
        first = hidden[0] if hidden else num_labels
        self.categories = nn.Parameter(torch.zeros(num_categories, first))
        self.numbers = nn.Linear(num_numbers, first, bias=bool(hidden))
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(hidden))
        self.out = nn.Linear(hidden[-1], num_labels) if hidden else _Bias(num_labels)

    @torch.no_grad()
    def initialise(self, features: Features, labels: Ragged, *, seed: int) -> None:
        """Scale as these numbers need it, and set the weights to their start."""
        self._learn_scale(features, labels)
        generator = keyed.generator(seed, START)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                if layer.weight.numel():
                    nn.init.xavier_uniform_(layer.weight, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.categories)
        odds = _log_odds(labels, self.num_labels)
        self.out.bias.copy_(odds if self.prior else torch.zeros_like(odds))

    def forward(
        self,
        features: Features,
        offsets: None = None,  # noqa: ARG002 - the contract of lists; these have one length
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n labels"]:
        """Scores of every label; the generator drives dropout, which is off without one or outside training."""
        x = self.numbers(self._scaled(features))
        if self.num_categories:
            codes, starts = features.categories.values, features.categories.offsets[:-1]
            x = x + functional.embedding_bag(codes, self.categories, starts, mode="mean")  # of none, zeros
        for layer in self.hidden:
            x = layer(self._dropped(functional.relu(x), generator))
        if not self.linear_last:
            x = self._dropped(functional.relu(x), generator)
        scores: Tensor = self.out(x)
        return scores

    def _dropped(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or not self.dropout or generator is None:
            return x
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.dropout
        return x * kept / (1 - self.dropout)


class _Bias(nn.Module):
    """Adds a number to each label: what a linear model ends with."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_labels))

    def forward(self, x: Tensor) -> Tensor:
        """Add."""
        return x + self.bias


@MODELS.register("labels", name="label_mlp", complexity="rows · width · (width + labels)")
class LabelMLP(_Network):
    r"""A multi-layer perceptron with an output for each label.

    .. math:: s(x) = W h_L(x) + b, \qquad
        h_1(x) = \operatorname{relu}\Big(W_1 x + \frac{1}{|C_x|} \sum_{c \in C_x} e_c + b_1\Big)

    Categories of a row are the mean of their vectors. The biases b start at the labels' log odds, so that training begins from
    popularity; they are what :class:`LabelPopularity` is alone.

    Args:
        widths: of the hidden layers; none makes the model linear, a logistic regression for each label under
            :func:`~rankwell.losses.sigmoid_loss`.
        dropout: share of hidden numbers that training sets to zero.
        prior: whether the biases start at the log odds, or at 0.

    >>> none = Ragged(torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    >>> features = Features(torch.tensor([[0.0], [1.0]]), none, 0)
    >>> model = LabelMLP(1, 0, 3, widths=(4,))
    >>> model.initialise(features, Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 0])), seed=0)
    >>> model(features).shape, model.out.bias.data  # log 3/1, log 1/3
    (torch.Size([2, 3]), tensor([ 1.0986, -1.0986, -1.0986]))
    """

    def __init__(
        self,
        num_numbers: int,
        num_categories: int,
        num_labels: int,
        *,
        widths: tuple[int, ...] = (128,),
        dropout: Annotated[float, Search(0.0, 0.5)] = 0.2,
        prior: bool = True,
    ) -> None:
        sizes = (num_numbers, num_categories, num_labels)
        super().__init__(sizes, widths, dropout, prior=prior, linear_last=not widths)


@MODELS.register("labels", name="label_vectors", complexity="rows · (width² + dim · labels)")
class LabelVectors(_Network):
    r"""Two towers: a vector of the row by a perceptron of its features, a vector of each label, and their product.

    .. math:: s_l(x) = \langle W h_L(x), v_l \rangle + b_l

    Labels that go with the same rows come to have like vectors. With fewer dimensions than the hidden layer has numbers it has
    fewer parameters than :class:`LabelMLP`, which counts where labels are many.

    Args:
        dim: of the vectors.
        widths: of the hidden layers of the rows' tower.
        dropout: share of hidden numbers that training sets to zero.
        prior: whether the biases start at the labels' log odds, or at 0.

    >>> LabelVectors(2, 0, 5, dim=3).out.weight.shape  # the labels' vectors
    torch.Size([5, 3])
    """

    def __init__(
        self,
        num_numbers: int,
        num_categories: int,
        num_labels: int,
        *,
        dim: Annotated[int, Search(8, 256, log=True)] = 32,
        widths: tuple[int, ...] = (128,),
        dropout: Annotated[float, Search(0.0, 0.5)] = 0.2,
        prior: bool = True,
    ) -> None:
        check_count(dim, "dim")
        sizes = (num_numbers, num_categories, num_labels)
        super().__init__(sizes, (*widths, dim), dropout, prior=prior, linear_last=True)


@MODELS.register("labels", name="label_popularity", complexity="labels")
class LabelPopularity(_LabelScorer):
    r"""Labels by how many rows have them, the same for every row.

    .. math:: s_l = \log \frac{n_l + 1}{n - n_l + 1}

    What a model that looks at the row must beat.

    >>> none = Ragged(torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    >>> model = LabelPopularity(0, 0, 2)
    >>> model.initialise(Features(torch.zeros(2, 0), none, 0), Ragged(torch.tensor([0, 1, 3]), torch.tensor([1, 0, 1])), seed=0)
    >>> model(Features(torch.zeros(1, 0), Ragged(none.offsets[:2], none.values), 0))  # log 2/2, log 3/1
    tensor([[0.0000, 1.0986]])
    """

    trainable: ClassVar[bool] = False
    odds: Tensor

    def __init__(self, num_numbers: int, num_categories: int, num_labels: int) -> None:
        super().__init__(num_numbers, num_categories, num_labels)
        self.register_buffer("odds", torch.zeros(num_labels))

    def initialise(self, features: Features, labels: Ragged, *, seed: int) -> None:  # noqa: ARG002 - nothing is drawn
        """Count."""
        self._learn_scale(features, labels)
        self.odds.copy_(_log_odds(labels, self.num_labels))

    def forward(
        self,
        features: Features,
        offsets: None = None,  # noqa: ARG002
        *,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "n labels"]:
        """The same for every row."""
        return self.odds.expand(len(features.numbers), -1)


@MODELS.register("labels", name="label_ridge", paper="hoerl1970", complexity="(numbers + categories)³")
class LabelRidge(_LabelScorer):
    r"""Least squares for each label with a penalty on the weights, in closed form.

    .. math:: W = (X^\top X + \lambda n I)^{-1} X^\top (Y - \bar y), \qquad s(x) = \bar y + x W

    X are the scaled numbers, and for each category its share of the row's. A baseline without rate or epoch. Time
    O(rows · d² + d³) and memory O(rows · d + d²) for d numbers and categories: for up to some thousand of them.

    Args:
        penalty: λ, above 0, for n rows.

    Raises:
        InputError: if ``penalty`` is not above 0.

    >>> none = Ragged(torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    >>> features = Features(torch.tensor([[-1.0], [1.0]]), none, 0)
    >>> model = LabelRidge(1, 0, 2, penalty=1.0)
    >>> model.initialise(features, Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 1])), seed=0)
    >>> model(features)  # 1/2 and x times -1/4, 1/4
    tensor([[0.7500, 0.2500],
            [0.2500, 0.7500]])

    Source: :cite:`hoerl1970`; equation number unchecked. Differs from it: the penalty is multiplied by the number of rows.
    """

    trainable: ClassVar[bool] = False
    weights: Tensor
    bias: Tensor

    def __init__(
        self,
        num_numbers: int,
        num_categories: int,
        num_labels: int,
        *,
        penalty: Annotated[float, Search(1e-4, 1.0, log=True)] = 0.01,
    ) -> None:
        super().__init__(num_numbers, num_categories, num_labels)
        check_positive(penalty, "penalty")
        self.penalty = penalty
        self.register_buffer("weights", torch.zeros(num_numbers + num_categories, num_labels))
        self.register_buffer("bias", torch.zeros(num_labels))

    @torch.no_grad()
    def initialise(self, features: Features, labels: Ragged, *, seed: int) -> None:  # noqa: ARG002 - nothing is drawn
        """Solve."""
        self._learn_scale(features, labels)
        x = self._columns(features).double()
        sizes = labels.offsets.diff()
        y = x.new_zeros(len(x), self.num_labels)
        y[torch.repeat_interleave(sizes), labels.values] = 1
        mean, shift = y.mean(0), x.mean(0)
        centred = x - shift
        gram = centred.T @ centred
        gram.diagonal().add_(self.penalty * len(x))
        weights = torch.cholesky_solve(centred.T @ (y - mean), torch.linalg.cholesky(gram))
        self.weights.copy_(weights)
        self.bias.copy_(mean - shift @ weights)

    def _columns(self, features: Features) -> Float[Tensor, "n d"]:
        sizes = features.categories.offsets.diff()
        shares = features.numbers.new_zeros(len(sizes), self.num_categories)
        rows = torch.repeat_interleave(sizes)
        shares[rows, features.categories.values] = 1 / sizes[rows].to(shares.dtype)
        return torch.cat([self._scaled(features), shares], 1)

    def forward(
        self,
        features: Features,
        offsets: None = None,  # noqa: ARG002
        *,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "n labels"]:
        """The fitted sums."""
        return self._columns(features) @ self.weights + self.bias
