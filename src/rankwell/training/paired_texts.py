"""Texts behind a model of pairs of them, as the shared objectives ask for it: by codes of queries and documents."""

# mypy: allow-untyped-calls

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.training.cached_gradients import in_chunks

__all__ = ["PairedTexts", "score_pairs"]


class PairedTexts(nn.Module):
    """Scores of a training step by a model that reads query and document together, ``model(queries, documents)``.

    Each different pair of a step is scored once: a pool of n negatives that a batch shares costs b · n pairs, negatives of
    rows as many as there are. ``micro_batch`` pairs at a time are read, pairs of like length together, with cached gradients
    (:func:`~rankwell.training.cached_gradients.in_chunks`). 0 reads all at once and keeps the graph.

    Raises :class:`ConfigError` for a ``micro_batch`` below 0.
    """

    def __init__(self, model: Any, queries: Sequence[str], documents: Sequence[str], *, micro_batch: int = 0) -> None:
        super().__init__()
        if micro_batch < 0:
            raise ConfigError(f"micro_batch must be at least 0, which reads a batch at once: got {micro_batch}.")
        self.model, self.queries, self.documents, self.micro_batch = model, queries, documents, micro_batch
        self.num_items = len(documents)

    def pair_scores(
        self, queries: Int[Tensor, " n"], documents: Int[Tensor, " n"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, " n"]:
        """Scores of pairs, with gradient."""
        pairs = queries.cpu() * self.num_items + documents.cpu()
        different, places = pairs.unique(return_inverse=True)
        device = next(self.model.parameters()).device
        if not len(different):
            return torch.zeros(0, device=device)
        texts = [
            (self.queries[pair // self.num_items], self.documents[pair % self.num_items]) for pair in different.tolist()
        ]
        size = self.micro_batch or len(texts)
        order = sorted(range(len(texts)), key=lambda place: sum(map(len, texts[place])))
        chunks = [order[first : first + size] for first in range(0, len(order), size)]
        scores = in_chunks(
            lambda chunk: self.model(*zip(*(texts[place] for place in chunks[chunk]), strict=True))[:, None],
            len(chunks),
            key=0 if generator is None else keyed.mix(generator.initial_seed()),
            cached=self.micro_batch > 0,
            device=device,
        )[:, 0]
        back = torch.empty(len(order), dtype=torch.int64).scatter_(0, torch.tensor(order), torch.arange(len(order)))
        return scores[back[places].to(device)]

    def contrast_scores(
        self,
        queries: Int[Tensor, " b"],
        positives: Int[Tensor, "b *m"],
        negatives: Int[Tensor, "*b n"],
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scores of positives ``[b]`` or ``[b, m]``, and of negatives ``[b, n]``, their own or a pool's."""
        pos = positives if positives.ndim == 2 else positives[:, None]
        wanted = torch.cat([pos, negatives.expand(len(queries), -1)], 1)
        flat = self.pair_scores(queries[:, None].expand(wanted.shape).flatten(), wanted.flatten(), generator=generator)
        scores = flat.view(wanted.shape)
        right, wrong = scores.split([pos.shape[1], wanted.shape[1] - pos.shape[1]], 1)
        return (right if positives.ndim == 2 else right[:, 0]), wrong


@torch.no_grad()
def score_pairs(
    model: Any, queries: Sequence[str], documents: Sequence[str], *, block: int = 64, progress: Any = None
) -> Float[Tensor, " n"]:
    """Scores of many pairs without gradient, on the processor; pairs of like length share a block.

    ``progress`` is told how many are done, of how many. The model's mode stays as it is.
    """
    order = sorted(range(len(queries)), key=lambda place: -len(queries[place]) - len(documents[place]))
    made = torch.empty(len(order))
    for first in range(0, len(order), block):
        chosen = order[first : first + block]
        texts = [queries[place] for place in chosen], [documents[place] for place in chosen]
        made[chosen] = model(*texts).float().cpu()
        if progress:
            progress(first + len(chosen), len(order))
    return made
