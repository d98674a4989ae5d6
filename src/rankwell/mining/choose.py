"""From candidates to negatives: the rules, the window, and the best or any of what is left."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.keyed import mix, words
from rankwell.mining.search import Found
from rankwell.mining.settings import MiningSettings

__all__ = ["choose"]


def choose(
    candidates: Found, positives: Float[Tensor, " q"], samples: Int[Tensor, " q"], settings: MiningSettings
) -> tuple[Found, dict[str, int]]:
    """Negatives of each row, best first, and how many candidates each rule dropped.

    Candidates come best first. ``positives`` holds the score that margins are held against. A candidate counts for the first
    rule that drops it: absolute margin, relative margin, maximum, minimum, and at last ``range_min``. ``random`` draws by
    hashes of (seed, sample, document): neither blocks nor other rows change a draw.

    >>> candidates = Found(torch.tensor([[4, 7, 1]]), torch.tensor([[0.9, 0.6, 0.5]]))
    >>> rules = MiningSettings(num_negatives=1, absolute_margin=0.1)
    >>> choose(candidates, torch.tensor([0.8]), torch.tensor([0]), rules)
    (Found(ids=tensor([[7]]), scores=tensor([[0.6000]])), {'absolute_margin': 1})
    """
    stays = candidates.ids >= 0
    dropped = {}
    for name, broken in _broken(candidates.scores, positives[:, None], settings):
        dropped[name] = int((stays & broken).sum())
        stays &= ~broken
    if settings.range_min:
        front = stays & (stays.cumsum(1) <= settings.range_min)
        dropped["range_min"] = int(front.sum())
        stays &= ~front
    return _taken(candidates, stays, samples, settings), dropped


def _broken(scores: Tensor, positives: Tensor, settings: MiningSettings) -> Iterator[tuple[str, Tensor]]:
    if settings.absolute_margin is not None:
        yield "absolute_margin", scores > positives - settings.absolute_margin
    if settings.relative_margin is not None:
        yield "relative_margin", scores > positives - settings.relative_margin * positives.abs()
    if settings.max_score is not None:
        yield "max_score", scores > settings.max_score
    if settings.min_score is not None:
        yield "min_score", scores < settings.min_score


def _taken(candidates: Found, stays: Tensor, samples: Tensor, settings: MiningSettings) -> Found:
    width = stays.shape[1]
    columns = torch.arange(width, device=stays.device).expand_as(stays)
    keys = columns
    if settings.sampling_strategy == "random":
        keys = words(mix(settings.seed), samples[:, None], candidates.ids)
    order = keys.masked_fill(~stays, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True)[
        :, : settings.num_negatives
    ]
    # Columns of what does not stay point behind the last one, and so come last.
    chosen = columns.masked_fill(~stays, width).gather(1, order).sort(1).values
    ids = torch.nn.functional.pad(candidates.ids, (0, 1), value=-1)
    scores = torch.nn.functional.pad(candidates.scores, (0, 1), value=-torch.inf)
    return Found(ids.gather(1, chosen), scores.gather(1, chosen))
