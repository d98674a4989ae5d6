import pytest
import torch
from scenes import DIM, build, scene

from rankwell.errors import InputError


def on_segment(point: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> float | None:
    """The share of ``other`` in a point of the line through both; None for points off it."""
    along = other - one
    share = ((point - one) @ along) / (along @ along)
    return share.item() if torch.allclose(one + share * along, point, atol=1e-5) else None


@pytest.mark.parametrize("pool", [False, True])
def test_pairs_lie_between_two_of_the_hardest(pool):
    seen = scene(pool=pool)
    made = build("hard_mixing")(seen)
    assert made.beside and made.log_q is None and made.vectors.shape == (6, 7, DIM)
    for b in range(6):
        mine = seen.negatives if pool else seen.negatives[b]
        hard = mine[(mine @ seen.queries[b]).topk(3).indices]
        for point in made.vectors[b, :4]:
            found = [on_segment(point, hard[i], hard[j]) for i in range(3) for j in range(3) if i != j]
            (share, *_) = [x for x in found if x is not None]
            assert 0 <= share <= 1


@pytest.mark.parametrize("unit", [False, True])
def test_with_the_query_its_share_is_the_smaller(unit):
    seen = scene(unit=unit)
    if unit:
        seen = seen._replace(queries=seen.queries * 2.5)  # as dropout leaves it
    made = build("hard_mixing", most_query=0.3)(seen)
    shares = []
    for b in range(6):
        query = seen.queries[b] / (2.5 if unit else 1)
        hard = seen.negatives[b][(seen.negatives[b] @ query).topk(3).indices]
        for point in made.vectors[b, 4:]:
            (share,) = [x for x in (on_segment(point, one, query) for one in hard) if x is not None]
            shares.append(share)
    assert all(0 <= share < 0.3 for share in shares) and max(shares) > 0.15


def test_pairs_are_of_two_and_all_come_up():
    seen = scene(2000, 3)
    negatives = torch.eye(4)[:3].repeat(2000, 1, 1)
    made = build("hard_mixing", pairs=1, with_query=0)(seen._replace(negatives=negatives)).vectors[:, 0]
    assert (made.bool().sum(1) == 2).all()  # α of 0 is one in 2^24
    absent = (~made[:, :3].bool()).sum(0)
    assert ((absent - 2000 / 3).square() / (2000 / 3)).sum() < 13.8  # chi-square, 2 degrees of freedom, 1 in 1,000


def test_fewer_valid_than_hardest():
    seen = scene()
    where = torch.zeros(6, 8, dtype=torch.bool)
    where[0, 3] = where[1, 2] = where[1, 6] = True
    made = build("hard_mixing", with_query=0)(seen._replace(where=where))
    assert made.where.any(1).tolist() == [True, True, *[False] * 4]
    assert torch.allclose(made.vectors[0], seen.negatives[0, 3].expand(4, -1))  # the one there is, with itself
    one, other = seen.negatives[1, 2], seen.negatives[1, 6]
    assert all(on_segment(point, one, other) is not None for point in made.vectors[1])


@pytest.mark.parametrize("own", [{"pairs": 0, "with_query": 0}, {"most_query": 0.6}, {"most_query": 0.0}])
def test_arguments(own):
    with pytest.raises(InputError, match=r"at least one mixture, and most_query must be above 0 and at most 0\.5"):
        build("hard_mixing", **own)
    with pytest.raises(InputError, match="pairs must be a whole number of at least 0: got -1"):
        build("hard_mixing", pairs=-1)
