"""What trained rankers of judged lists answer to: the best single feature, and LightGBM's LambdaMART."""

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell.errors import InputError, require
from rankwell.lists import check_count
from rankwell.metrics import ndcg
from rankwell.models.registry import MODELS
from rankwell.registry import Search

__all__ = ["BestFeature", "LambdaMART"]

LONGEST = 10_000
"""Documents of a list that LightGBM takes at most."""


@MODELS.register("lists", name="best_feature", complexity="documents")
class BestFeature(nn.Module):
    """Documents by the one feature that ranks the training lists best, upwards or downwards, by NDCG@10.

    What a model of all features must beat. Fit: two rankings a feature.

    >>> model = BestFeature(2)
    >>> features = torch.tensor([[0.0, 3.0], [1.0, 2.0], [0.5, 1.0]])
    >>> model.initialise(features, torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0, 3]), seed=0)
    >>> model(features, torch.tensor([0, 3]))  # the second feature, the least first
    tensor([-3., -2., -1.])
    """

    trainable: ClassVar[bool] = False
    place: Tensor
    sign: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.register_buffer("sign", torch.ones(()))

    @torch.no_grad()
    def initialise(
        self,
        features: Float[Tensor, "n f"],
        labels: Float[Tensor, " n"],
        offsets: Int[Tensor, " lists_plus_1"],
        *,
        seed: int,  # noqa: ARG002 - the contract's; nothing is drawn
        weights: Float[Tensor, " n"] | None = None,
    ) -> None:
        """Find the feature; ``weights`` are those of the documents' gains."""
        reached = [
            (float(ndcg(sign * column, labels, k=10, offsets=offsets, weights=weights)), -place, sign)
            for place, column in enumerate(features.T)
            for sign in (1.0, -1.0)
        ]
        _, place, sign = max(reached)
        self.place.fill_(-place)
        self.sign.fill_(sign)

    def forward(
        self,
        features: Float[Tensor, "n f"],
        offsets: Int[Tensor, " lists_plus_1"],  # noqa: ARG002
        *,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Float[Tensor, " n"]:
        """The feature."""
        return self.sign * features.index_select(1, self.place[None]).squeeze(1)


@MODELS.register("lists", name="lambdamart", paper="burges2010", complexity="documents · trees")
class LambdaMART(nn.Module):
    r"""Boosted trees on LambdaRank's gradients, by LightGBM (extra ``ltr``): the model to beat on judged features.

    .. math:: s(x) = \sum_t \eta\, f_t(x)

    The trees are kept as LightGBM's own text, in a buffer of bytes: a saved model needs nothing unpickled.

    Args:
        trees: how many.
        leaves: of a tree at most.
        learning_rate: :math:`\eta`.
        min_documents: of a leaf at least.

    Raises:
        InputError: if ``trees`` or ``min_documents`` is below 1, ``leaves`` below 2, or ``learning_rate`` not above 0; in the
            fit for labels that are not whole or above 30, and for lists too long for LightGBM (10,000 documents).

    Fitted at once on all that it is given; nothing chooses the number of trees. Time O(n · features) a tree.

    Source: :cite:`burges2010`, section 7; as LightGBM has it, with its truncation at 30.
    """

    trainable: ClassVar[bool] = False
    text: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        trees: Annotated[int, Search(20, 1000, log=True)] = 200,
        leaves: Annotated[int, Search(4, 64, log=True)] = 15,
        learning_rate: Annotated[float, Search(0.01, 0.3, log=True)] = 0.05,
        min_documents: Annotated[int, Search(5, 200, log=True)] = 50,
    ) -> None:
        super().__init__()
        check_count(trees, "trees")
        check_count(leaves, "leaves", least=2)
        check_count(min_documents, "min_documents")
        if not learning_rate > 0:
            raise InputError(f"learning_rate must be above 0: got {learning_rate}.")
        self.num_features, self.trees = num_features, trees
        self.own = {"num_leaves": leaves, "learning_rate": learning_rate, "min_data_in_leaf": min_documents}
        self.register_buffer("text", torch.zeros(0, dtype=torch.uint8))
        self._booster: Any = None

    def initialise(
        self,
        features: Float[Tensor, "n f"],
        labels: Float[Tensor, " n"],
        offsets: Int[Tensor, " lists_plus_1"],
        *,
        seed: int,
        weights: Float[Tensor, " n"] | None = None,
    ) -> None:
        """Grow the trees; ``weights`` are LightGBM's of rows."""
        lightgbm = require("lightgbm", "ltr")
        if bool((labels != labels.round()).any()) or bool((labels > 30).any()):
            raise InputError(f"lambdamart takes whole labels of at most 30: got {float(labels.max()):g} at most.")
        if len(offsets) > 1 and (longest := int(offsets.diff().max())) > LONGEST:
            raise InputError(f"lambdamart takes lists of at most {LONGEST:,} documents: got one of {longest:,}.")
        given = lightgbm.Dataset(
            features.cpu().numpy(),
            label=labels.cpu().numpy(),
            group=offsets.diff().cpu().numpy(),
            weight=None if weights is None else weights.cpu().numpy(),
        )
        settings = {
            "objective": "lambdarank", "verbosity": -1, "seed": seed % 2**31, "deterministic": True, "force_row_wise": True,
            "num_threads": torch.get_num_threads(), "label_gain": [2**grade - 1 for grade in range(31)], **self.own,
        }  # fmt: skip
        booster = lightgbm.train(settings, given, num_boost_round=self.trees)
        text = torch.frombuffer(bytearray(booster.model_to_string().encode()), dtype=torch.uint8)
        self.text = text.to(self.text.device)
        self._booster = None

    def forward(
        self,
        features: Float[Tensor, "n f"],
        offsets: Int[Tensor, " lists_plus_1"],  # noqa: ARG002
        *,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Float[Tensor, " n"]:
        """The sum of the trees; zeros before the fit."""
        if not len(self.text):
            return features.new_zeros(len(features))
        if self._booster is None:
            lightgbm = require("lightgbm", "ltr")
            self._booster = lightgbm.Booster(model_str=self.text.cpu().numpy().tobytes().decode())
        return torch.from_numpy(self._booster.predict(features.cpu().numpy())).to(features)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take a text of any length."""
        if (stored := state_dict.get(prefix + "text")) is not None:
            self.text = self.text.new_zeros(stored.shape)
            self._booster = None
        super()._load_from_state_dict(state_dict, prefix, *rest)
