"""Training state in one file: safetensors with JSON in its header, written atomically, checked on reading."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rankwell.atomic import write_atomically
from rankwell.errors import RunError, require

__all__ = ["load", "load_optimisers", "optimiser_tensors", "save"]

HEADER = "rankwell"
"""The header's entry for checksum and facts."""


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts as one file. Time: one pass for the checksum, one for the disk."""
    safetensors = _safetensors()
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    # One entry: the library writes several in any order, and the same state would not give the same bytes.
    header = {HEADER: f"{_checksum(whole, text)} {text}"}
    with write_atomically(path, safetensors.SafetensorError) as temporary:
        safetensors.torch.save_file(whole, temporary, metadata=header)


def load(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read what :func:`save` wrote; a file that is not whole is a :class:`RunError`."""
    safetensors = _safetensors()
    if not path.is_file():
        raise RunError(f"there is no {path}. Is this the folder of a finished run?")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            checksum, _, text = (file.metadata() or {}).get(HEADER, "").partition(" ")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dictionary)
        facts = json.loads(text)
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise RunError(
            f"{path} is corrupt and cannot be read ({error}). Delete the run folder and train again."
        ) from error
    if checksum != _checksum(tensors, text):
        raise RunError(f"{path} is corrupt: its checksum differs. Delete the run folder and train again.")
    return tensors, facts


def optimiser_tensors(optimisers: Sequence[Optimizer]) -> tuple[dict[str, Tensor], list[Any]]:
    """The optimisers' states as flat tensors and JSON."""
    tensors: dict[str, Tensor] = {}
    facts = []
    for number, optimiser in enumerate(optimisers):
        plain: dict[str, dict[str, Any]] = {}
        for key, state in optimiser.state_dict()["state"].items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser.{number}.{key}.{name}"] = value
                else:
                    plain.setdefault(str(key), {})[name] = value
        facts.append(plain)
    return tensors, facts


def load_optimisers(optimisers: Sequence[Optimizer], tensors: Mapping[str, Tensor], facts: Sequence[Any]) -> None:
    """Put states from :func:`optimiser_tensors` back."""
    for number, (optimiser, plain) in enumerate(zip(optimisers, facts, strict=True)):
        state: dict[int, dict[str, Any]] = {int(key): dict(values) for key, values in plain.items()}
        prefix = f"optimiser.{number}."
        for full, tensor in tensors.items():
            if full.startswith(prefix):
                key, name = full.removeprefix(prefix).split(".", 1)
                state.setdefault(int(key), {})[name] = tensor
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _safetensors() -> Any:
    require("safetensors.torch", "cli")
    return require("safetensors", "cli")


def _checksum(tensors: Mapping[str, Tensor], facts: str) -> str:
    value = zlib.crc32(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.contiguous().cpu().view(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
