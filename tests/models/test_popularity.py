import pytest
import torch

from rankwell.errors import InputError
from rankwell.models import MODELS, Popularity
from rankwell.types import Ragged

KNOWN = Ragged(torch.tensor([0, 2, 3, 3]), torch.tensor([0, 2, 2]))


def fitted() -> Popularity:
    model = Popularity(3, 4)
    model.initialise(KNOWN, seed=0)
    return model


def test_scores_are_counts_for_everybody() -> None:
    assert fitted().score_all(torch.tensor([2, 0])).tolist() == [[1, 0, 2, 0]] * 2


def test_out_is_written_also_where_its_rows_are_strided() -> None:
    buffer = torch.full((2, 6), 7.0)
    got = fitted().score_all(torch.tensor([0, 1]), out=buffer[:, :4])
    assert got.data_ptr() == buffer.data_ptr()
    assert buffer.tolist() == [[1, 0, 2, 0, 7, 7]] * 2


def test_save_and_load() -> None:
    fresh = Popularity(3, 4)
    fresh.load_state_dict(fitted().state_dict())
    assert torch.equal(fresh.score_all(torch.tensor([1])), fitted().score_all(torch.tensor([1])))


def test_is_registered_and_checks_what_it_gets() -> None:
    assert MODELS["popularity"].function is Popularity
    assert not Popularity.trainable
    with pytest.raises(InputError, match="must be codes from 0 to 1: got 0 to 2"):
        Popularity(3, 2).initialise(KNOWN, seed=0)
