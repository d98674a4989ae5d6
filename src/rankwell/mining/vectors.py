"""Embeddings as mining reads them: in blocks, from tensors or from files mapped into memory."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.errors import InputError
from rankwell.similarity import normalise

__all__ = ["Vectors"]


class Vectors:
    """Rows of one or more tensors ``[n, d]``, one behind the other, given out in float32.

    ``unit`` gives them the length one. ``rows``, ascending, says which rows count; None for all. Only what is given out is
    read, so that the tensors may be files mapped into memory.

    Raises:
        InputError: unless all are matrices of numbers with d columns; and when a row that is read holds NaN or infinity.

    >>> vectors = Vectors([torch.eye(2), 2 * torch.eye(2)], unit=False, rows=torch.tensor([0, 3]))
    >>> len(vectors), vectors.take(torch.tensor([1, 1]))
    (2, tensor([[0., 2.],
            [0., 2.]]))
    """

    def __init__(
        self,
        parts: Sequence[Tensor],
        *,
        unit: bool,
        rows: Int[Tensor, " n"] | None = None,
        device: torch.device | str = "cpu",
        name: str = "embeddings",
    ) -> None:
        for part in parts:
            if part.ndim != 2 or not part.is_floating_point() or part.shape[1] != parts[0].shape[1]:
                raise InputError(
                    f"{name} must be a matrix of floating-point numbers, a row each: got {part.dtype} {tuple(part.shape)}."
                )
        self.parts, self.unit, self.device, self.name = list(parts), unit, torch.device(device), name
        self.dim = parts[0].shape[1] if parts else 0
        self.starts = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0)
        self.rows = rows
        if rows is not None and rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < int(self.starts[-1]):
            raise InputError(f"rows of {name} must be in [0, {int(self.starts[-1])}): got up to {int(rows.max())}.")

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.rows is None else self.rows.numel()

    def take(self, ids: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Chosen rows."""
        ids = ids.cpu() if self.rows is None else self.rows[ids.cpu()]
        found = torch.empty(len(ids), self.dim)
        number = torch.searchsorted(self.starts, ids, right=True) - 1
        for part in sorted(set(number.tolist())):
            here = number == part
            found[here] = self.parts[part][(ids[here] - self.starts[part]).to(self.parts[part].device)].float().cpu()
        return self._checked(found)

    def blocks(self, size: int) -> Iterator[tuple[int, Float[Tensor, "b d"]]]:
        """All rows in order, at most ``size`` at a time, each block with the number of its first row."""
        for first in range(0, len(self), size):
            last = min(first + size, len(self))
            yield first, self._slice(first, last) if self.rows is None else self.take(torch.arange(first, last))

    def _slice(self, first: int, last: int) -> Tensor:
        """Neighbouring rows, without an index."""
        pieces = [
            part[max(first - start, 0) : last - start]
            for part, start in zip(self.parts, self.starts.tolist(), strict=False)
            if start < last and start + len(part) > first
        ]
        return self._checked(torch.cat([piece.to(self.device, torch.float32) for piece in pieces]))

    def _checked(self, found: Tensor) -> Tensor:
        found = found.to(self.device)
        if not bool(found.isfinite().all()):
            raise InputError(f"{self.name} must hold finite numbers: got NaN or infinity. Make them again.")
        return normalise(found) if self.unit else found
