"""Negatives that texts are mixed into."""

import math

import pytest
import torch

from rankwell.errors import InputError
from rankwell.generators import Described, Embedded, SemanticNegatives
from rankwell.similarity import normalise
from rankwell.types import Ragged

NOBODY = Ragged(torch.zeros(9, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


def described(rows, m=3, k=2, t=5):
    return Described(torch.randn(m, k, t, generator=torch.Generator().manual_seed(1)), torch.tensor(rows))


def seen(b=4, n=6, d=3, *, shared=False, unit=False, where=None, samples=None):
    draw = torch.Generator().manual_seed(2)
    queries, positives = torch.randn(2, b, d, generator=draw)
    negatives = torch.randn(*(() if shared else (b,)), n, d, generator=draw)
    if unit:
        queries, positives, negatives = normalise(queries), normalise(positives), normalise(negatives)
    ids = torch.arange(b)
    samples = ids if samples is None else samples
    return Embedded(
        queries, positives, negatives, where, ids, ids, torch.zeros(negatives.shape[:-1]).long(), samples, unit=unit
    )


def made_of(given, **own):
    return SemanticNegatives(NOBODY, 8, 3, seed=0, **{"described": described([0, -1, 2, 1]), **own}), given


@pytest.mark.parametrize("unit", [False, True])
def test_the_mixture_and_the_term_by_hand(unit):
    make, given = made_of(seen(unit=unit), mixing_weight=0.3, term_weight=0.5, term_temperature=0.4, hidden=7)
    made = make(given)
    first, last = make.layers[0], make.layers[2]
    total, rows = 0.0, 0
    for row, sample in enumerate([0, -1, 2, 1]):
        fits = False
        for column in range(6):
            plain = given.negatives[row, column]
            for text in range(2 if sample >= 0 else 1):
                vector = make.vectors[sample, text]
                meant = last.weight @ (first.weight @ vector + first.bias).clamp(min=0) + last.bias
                meant = meant / meant.norm() if unit else meant
                expected = 0.3 * meant + 0.7 * plain if sample >= 0 else plain
                if torch.allclose(made.vectors[row, 0], expected, atol=1e-6):
                    fits = True
                    cosine = torch.nn.functional.cosine_similarity
                    gap = cosine(given.queries[row], meant, 0) - cosine(given.queries[row], given.positives[row], 0)
                    if sample >= 0:
                        total, rows = total + math.log1p(math.exp(gap.item() / 0.4)), rows + 1
        assert fits, row
    assert rows == 3 and not made.beside and made.where.all()
    torch.testing.assert_close(made.penalty.item(), 0.5 * total / 3)


def test_all_of_a_rows_negatives_are_used_once():
    make, given = made_of(seen(), mixing_weight=0.0, k=6, term_weight=0.0)
    made = make(given)
    assert made.penalty is None
    for row in range(4):
        ours, theirs = (sorted(map(tuple, vectors[row].tolist())) for vectors in (made.vectors, given.negatives))
        assert ours == theirs


def test_a_pool_gives_rows_different_negatives():
    make, given = made_of(seen(n=60, shared=True), mixing_weight=0.0, k=3)
    vectors = make(given).vectors
    assert vectors.shape == (4, 3, 3)
    assert all((given.negatives == vector).all(-1).any() for vector in vectors.flatten(0, 1))
    assert len(set(map(tuple, vectors.flatten(0, 1).tolist()))) > 8


def test_rows_do_not_depend_on_their_batch():
    make, given = made_of(seen(), k=3)
    whole = make(given).vectors
    for row in range(4):
        one = slice(row, row + 1)
        rows = {name: getattr(given, name)[one] for name in given._fields[:8] if name != "where"}
        assert make(given._replace(**rows)).vectors.equal(whole[one])
    assert not make(given._replace(epoch=1)).vectors.equal(whole)
    again, _ = made_of(given, k=3)
    assert again(given).vectors.equal(whole)  # the start of the adapter is the seed's


def test_building_draws_nothing_from_torchs_own_generator():
    before = torch.random.get_rng_state()
    made_of(None)
    assert torch.random.get_rng_state().equal(before)


def test_what_is_masked_stays_so():
    where = torch.zeros(4, 6, dtype=torch.bool)
    where[1:] = True
    given = seen(where=where)
    given.negatives[0] = math.nan
    make, given = made_of(given, k=6)
    made = make(given)
    assert made.where.equal(where) and made.vectors.isfinite().all() and made.penalty.isfinite()


def test_gradients_flow_to_adapter_and_negatives():
    make, given = made_of(seen(), mixing_weight=0.25, k=6)
    given = given._replace(negatives=given.negatives.requires_grad_())
    make(given).vectors.sum().backward()
    expected = torch.tensor([0.75, 1.0, 0.75, 0.75])[:, None, None].expand(4, 6, 3)
    torch.testing.assert_close(given.negatives.grad, expected)  # each place is used once
    assert make.layers[0].weight.grad.abs().sum() > 0 and "vectors" not in make.state_dict()


def test_without_a_description_there_is_no_term():
    make, given = made_of(seen(), described=described([-1, -1, -1, -1]))
    assert make(given).penalty == 0
    nothing = Described(torch.zeros(0, 1, 5), torch.full((4,), -1))
    make, given = made_of(seen(), described=nothing, k=6)
    assert make(given).penalty == 0 and make(given).vectors.sum().isclose(given.negatives.sum())


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"described": None}, "rankwell describe"),
        ({"described": Described(torch.zeros(3, 5), torch.zeros(2).long())}, r"shape \[m, k, t\]"),
        ({"described": Described(torch.full((1, 1, 5), math.nan), torch.zeros(2).long())}, "finite"),
        ({"described": described([0, 3])}, "numbers below 3, .*: got 0 … 3"),
        ({"described": described([[0]])}, "one number for each row"),
        ({"described": described([0])._replace(items=torch.zeros(2, 5))}, "one for each of 8 items"),
        ({"k": 0}, "k must be"),
        ({"hidden": 0}, "hidden must be"),
        ({"mixing_weight": 2.0}, "mixing_weight 2.0"),
        ({"mixing_weight": math.nan}, "mixing_weight nan"),
        ({"term_weight": -1.0}, "term_weight -1.0"),
        ({"term_temperature": 0.0}, "term_temperature 0.0"),
    ],
    ids=[
        "none",
        "shape",
        "nan",
        "rows",
        "rows_shape",
        "items",
        "k",
        "hidden",
        "weight",
        "nan_weight",
        "term",
        "temperature",
    ],
)
def test_arguments(own, says):
    with pytest.raises(InputError, match=says):
        made_of(None, **own)


def test_too_few_sampled():
    make, given = made_of(seen(n=2), k=3)
    with pytest.raises(InputError, match=r"k = 3 .* got 2"):
        make(given)
