import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rankwell.errors import RunError
from rankwell.training import RowAdam, checkpoint

TENSORS = {
    "a": torch.tensor([[1.5, -2.0], [0.0, torch.inf]]),
    "b.c": torch.arange(5),
    "flag": torch.tensor([True, False]),
    "half": torch.tensor([1.0, 3.0]).bfloat16(),
    "one": torch.tensor(7.0),
    "none": torch.zeros(0, 3),
}
FACTS = {"epoch": 3, "loss": [0.1 + 0.2, -float("inf")], "text": "ü", "nothing": None}


def test_round_trip(tmp_path):
    checkpoint.save(tmp_path / "x.safetensors", TENSORS, FACTS)
    tensors, facts = checkpoint.load(tmp_path / "x.safetensors")
    assert facts == FACTS and tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and tensors[name].equal(tensor)
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_the_same_state_gives_the_same_bytes(tmp_path):
    for number in range(20):
        checkpoint.save(tmp_path / f"{number}.safetensors", TENSORS, FACTS)
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


def test_transposed_and_trained_tensors_are_saved(tmp_path):
    parameter = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    checkpoint.save(tmp_path / "x.safetensors", {"t": parameter.T}, {})
    assert checkpoint.load(tmp_path / "x.safetensors")[0]["t"].equal(parameter.detach().T)


def small(path: Path) -> bytes:
    checkpoint.save(path, {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3])}, {"epoch": 5})
    return path.read_bytes()


def loaded(path: Path) -> str | tuple[dict[str, torch.Tensor], object]:
    try:
        return checkpoint.load(path)
    except RunError as error:
        return str(error)


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """Weights, names, shapes and facts: what is loaded is what was saved, or nothing."""
    path = tmp_path / "x.safetensors"
    whole = small(path)
    expected = checkpoint.load(path)
    refused = 0
    for place in range(len(whole)):
        for bit in (place % 8, 7, 0):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
            got = loaded(path)
            if isinstance(got, str):
                assert "x.safetensors is corrupt" in got and "\n" not in got
                refused += 1
            else:
                tensors, facts = got
                assert facts == expected[1] and tensors.keys() == expected[0].keys()
                assert all(tensors[name].equal(expected[0][name]) for name in tensors)
    assert refused > 2.5 * len(whole)


@pytest.mark.parametrize("length", [0, 5, 8, 100, -1])
def test_truncated(tmp_path, length):
    path = tmp_path / "x.safetensors"
    whole = small(path)
    path.write_bytes(whole[:length])
    with pytest.raises(
        RunError, match=r"x.safetensors is corrupt and cannot be read .*Delete the run folder and train again"
    ):
        checkpoint.load(path)


def test_another_programs_safetensors_and_a_missing_one(tmp_path):
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(RunError, match="is corrupt"):
        checkpoint.load(tmp_path / "x.safetensors")
    with pytest.raises(RunError, match=r"there is no .*y.safetensors"):
        checkpoint.load(tmp_path / "y.safetensors")


FULL = """
import resource, sys, torch
from pathlib import Path
from rankwell.errors import RunError
from rankwell.training import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    checkpoint.save(Path(sys.argv[1]), {"a": torch.zeros(5000)}, {})
except RunError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more(tmp_path):
    """A limit of the system on the size of files: the library reports it by an exception of its own."""
    path = tmp_path / "x.safetensors"
    small(path)
    child = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert child.stdout.startswith(f"cannot write {path}: ") and "File too large" in child.stdout
    assert checkpoint.load(path)[1] == {"epoch": 5}
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_optimisers_round_trip(tmp_path):
    def stepped(table: torch.nn.Parameter, weight: torch.nn.Parameter, times: int) -> list[torch.optim.Optimizer]:
        optimisers = [RowAdam([table], lr=0.1), torch.optim.AdamW([weight], lr=0.1)]
        for _ in range(times):
            step(optimisers, table, weight)
        return optimisers

    def step(optimisers: list[torch.optim.Optimizer], table: torch.Tensor, weight: torch.Tensor) -> None:
        looked = torch.nn.functional.embedding(torch.tensor([1, 0, 1]), table, sparse=True)
        (looked @ weight).square().sum().backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()

    parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(2))]
    optimisers = stepped(*parameters, times=3)
    tensors, facts = checkpoint.optimiser_tensors(optimisers)
    checkpoint.save(tmp_path / "x.safetensors", tensors, {"facts": facts})
    copies = [torch.nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    resumed = stepped(*copies, times=0)
    read, said = checkpoint.load(tmp_path / "x.safetensors")
    checkpoint.load_optimisers(resumed, read, said["facts"])
    step(optimisers, *parameters)
    step(resumed, *copies)
    assert all(a.equal(b) for a, b in zip(parameters, copies, strict=True))
