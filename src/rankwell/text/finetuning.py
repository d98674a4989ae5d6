"""Teaching a text encoder what users choose: the fine-tuning by collaborative signals of HNLMRec."""

# mypy: allow-untyped-calls

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rankwell import keyed
from rankwell.atomic import write_folder
from rankwell.errors import ConfigError, InputError, RunError
from rankwell.losses import in_batch, logistic_loss
from rankwell.text.encoder import SentenceEncoder, no_bar

__all__ = ["FinetuneSettings", "finetune"]

ORDER, DROPOUT = 62, 63
"""Keep these random numbers apart from others with the same seed."""


@dataclass(frozen=True)
class FinetuneSettings:
    """How to train a text encoder."""

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 2e-5
    weight_decay: float = 0.0
    temperature: float = 0.05
    """T, by which differences of cosines are divided; unchecked: the published value was not found."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ConfigError(
                "epochs must be at least 1, and batch_size 2, since a row's negatives are the others':"
                f" got epochs {self.epochs}, batch_size {self.batch_size}."
            )
        if not (0 < self.learning_rate < math.inf and self.temperature > 0 and self.weight_decay >= 0):
            raise ConfigError(
                "learning_rate and temperature must be above 0 and weight_decay at least 0: got learning_rate"
                f" {self.learning_rate}, temperature {self.temperature}, weight_decay {self.weight_decay}."
            )


def finetune(
    encoder: SentenceEncoder,
    pairs: Sequence[tuple[str, str]],
    settings: FinetuneSettings | None = None,
    *,
    out: Path | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> list[float]:
    r"""Train the encoder's model on (user text, item text) pairs of interactions; the loss of each step.

    .. math:: \ell = -\operatorname{mean}_{n} \log \sigma \frac{\cos(q, p) - \cos(q, n)}{T}

    where q is the text of a user, p that of an item that the user chose, and n those of the batch's other rows that are in
    no pair with q. It is ``in_batch(logistic_loss, temperature=T)`` (:func:`~rankwell.losses.in_batch`). Batches and the
    model's dropout are keyed by seed, epoch and step. ``progress`` is told steps done, steps in all and the loss. With ``out``,
    the model is then saved as that new folder, whole or not at all, from which
    :func:`~rankwell.text.encoder.load_encoder` takes it.

    Raises :class:`InputError` for fewer than two pairs, :class:`RunError` where ``out`` exists or the loss is not finite.

    Source: :cite:`zhao2025hnlmrec` and its code; equation number unchecked. Differs from it: a model of sentence-transformers,
    all of whose weights move, instead of a low-rank addition to a language model; negatives are the batch's alone.
    """
    settings = settings or FinetuneSettings()
    if len(pairs) < 2:
        raise InputError(f"fine-tuning needs at least two pairs of texts: got {len(pairs)}.")
    if out is not None and out.exists():
        raise RunError(f"{out} exists. Name a folder that does not.")
    codes = _Codes(pairs)
    model = encoder.model
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    losses: list[float] = []
    batches = _batches(len(pairs), settings)
    model.train()
    try:
        for step, rows in enumerate(batches):
            value = _loss(model, [pairs[row] for row in rows.tolist()], codes.where(rows), settings, step)
            losses.append(value.item())
            if not math.isfinite(losses[-1]):
                raise RunError(f"the loss is {losses[-1]} at step {step + 1}: training diverged. Lower learning_rate.")
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            if progress:
                progress(step + 1, len(batches), losses[-1])
    finally:
        model.eval()
    if out is not None:
        with write_folder(out) as folder, no_bar():
            model.save_pretrained(str(folder), create_model_card=False)
    return losses


def _loss(
    model: Any, pairs: Sequence[tuple[str, str]], where: Bool[Tensor, "b b"], settings: FinetuneSettings, step: int
) -> Tensor:
    """The mean loss of a batch."""
    beside = {} if model.device.type == "cpu" else {"device_type": model.device.type}
    with torch.random.fork_rng(devices=[model.device] if beside else [], **beside):
        torch.manual_seed(keyed.mix(settings.seed, step, DROPOUT))  # dropout takes no generator
        queries, items = (_vectors(model, [pair[side] for pair in pairs]) for side in (0, 1))
    loss = in_batch(logistic_loss, similarity="cosine", temperature=settings.temperature)
    return loss(queries, items, where=where.to(queries.device))


def _vectors(model: Any, texts: list[str]) -> Tensor:
    """Vectors with gradient."""
    features = {
        name: value.to(model.device) if isinstance(value, Tensor) else value
        for name, value in model.preprocess(texts).items()
    }
    vectors: Tensor = model(features)["sentence_embedding"]
    return vectors


def _batches(rows: int, settings: FinetuneSettings) -> list[Int[Tensor, " b"]]:
    """The rows of each step, each epoch in an order of its own. A last batch of one row is left out: it has no negatives."""
    made: list[Tensor] = []
    for epoch in range(settings.epochs):
        order = torch.randperm(rows, generator=keyed.generator(settings.seed, epoch, ORDER))
        made += [batch for batch in torch.split(order, settings.batch_size) if len(batch) > 1]
    return made


class _Codes:
    """Which texts are which, so that no pair of the data is a negative elsewhere in a batch."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.users, self.items = (_numbered([pair[side] for pair in pairs]) for side in (0, 1))
        self.width = int(self.items.max()) + 1
        self.known = (self.users * self.width + self.items).unique()

    def where(self, rows: Int[Tensor, " b"]) -> Bool[Tensor, "b b"]:
        """True on the diagonal, and where the row's user is in no pair with the column's item."""
        keys = self.users[rows][:, None] * self.width + self.items[rows]
        return ~torch.isin(keys, self.known) | torch.eye(len(rows), dtype=torch.bool)


def _numbered(texts: list[str]) -> Tensor:
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return torch.tensor([numbers[text] for text in texts])
