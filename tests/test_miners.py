import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rankwell.errors import ConfigError, InputError, UnknownName
from rankwell.losses import (
    contrast,
    contrast_hinge_loss,
    hinge_loss,
    in_batch,
    info_nce_loss,
    mml_loss,
    multi_similarity_loss,
    sampled_softmax_loss,
    simce_loss,
    triplet_loss,
)
from rankwell.miners import (
    MINERS,
    distance_weighted,
    easy_positive,
    false_negative_filter,
    hard,
    hardest,
    margin_band,
    multi_similarity,
    none,
    parse,
    semi_hard,
    top_fraction,
)
from rankwell.similarity import cosine, negative_squared_euclidean


def kept(mask: Tensor) -> list[int]:
    """Which of the only row stay."""
    (row,) = mask.tolist()
    return [number for number, stays in enumerate(row) if stays]


def scores(rows: int = 5, n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pos, neg = (torch.rand(shape, generator=generator, dtype=torch.double) for shape in ((rows,), (rows, n)))
    return pos, neg.requires_grad_()


def same(one: Tensor, other: Tensor, leaf: Tensor) -> None:
    """Two losses agree in value and gradient."""
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(*(torch.autograd.grad(x, leaf, retain_graph=True)[0] for x in (one, other)))


# ------------------------------------------------------------------------------------------------------- worked by hand

POS = torch.tensor([0.8])
NEG = torch.tensor([[0.9, 0.8, 0.75, 0.5, 0.1, -0.3]])


@pytest.mark.parametrize(
    ("miner", "stay"),
    [
        (none(), [0, 1, 2, 3, 4, 5]),
        (hardest(3), [0, 1, 2]),
        (hardest(9), [0, 1, 2, 3, 4, 5]),
        (top_fraction(0.5), [0, 1, 2]),
        (top_fraction(0.51), [0, 1, 2, 3]),
        (top_fraction(0.01), [0]),
        (hard(), [0, 1]),
        (semi_hard(0.1), [2]),
        (semi_hard(0.5), [2, 3]),
        (semi_hard(1e-3), [0]),  # none is so near: the hardest remains
        (margin_band(0.0, 0.75), [2, 3, 4]),
        (margin_band(0.95, 1.0), [0]),
        (false_negative_filter(0.95), [2, 3, 4, 5]),  # up to 0.76
        (false_negative_filter(0.9), [3, 4, 5]),  # up to 0.72
        (false_negative_filter(1.0), [1, 2, 3, 4, 5]),
        (false_negative_filter(1.0, margin=0.2), [3, 4, 5]),  # up to 0.6
        (false_negative_filter(0.5, margin=0.2), [4, 5]),  # up to 0.4
        (multi_similarity(0.1), [0, 1, 2]),  # above 0.7
        (easy_positive(), [0, 1, 2, 3, 4, 5]),
    ],
    ids=repr,
)
def test_one_positive(miner, stay):
    assert kept(miner(POS, NEG)) == stay
    assert miner.masks(POS, NEG).pos_where.tolist() == [True]


SEVERAL = torch.tensor([[0.9, 0.4, 0.6]])


@pytest.mark.parametrize(
    ("miner", "positives", "stay"),
    [
        (hard(), [0, 1, 2], [0, 1, 2, 3]),  # at least 0.4
        (semi_hard(0.11), [0, 1, 2], [1, 2, 3]),  # below 0.9, 0.4 or 0.6 by up to 0.11
        (semi_hard(0.32), [0, 1, 2], [1, 2, 3, 4]),
        (easy_positive(), [0], [0, 1, 2, 3, 4, 5]),
        (easy_positive() & hard(), [0], [0]),
        (multi_similarity(0.1), [0, 1, 2], [0, 1, 2, 3]),  # negatives above 0.3, positives below 1
        (multi_similarity(0.15) & hardest(2), [0, 1, 2], [0, 2]),
        (false_negative_filter(0.95), [0, 1, 2], [1, 2, 3, 4, 5]),  # of the best positive
    ],
    ids=repr,
)
def test_several_positives(miner, positives, stay):
    found = miner.masks(SEVERAL, torch.tensor([[0.9, 0.8, 0.85, 0.5, 0.1, -0.3]]))
    assert (kept(found.pos_where), kept(found.where)) == (positives, stay)


def test_multi_similarity_narrows_both_sides():
    """Positives below 0.7 + 0.1, negatives above 0.75 - 0.1; where nothing is near, the hardest of each."""
    found = multi_similarity(0.1).masks(torch.tensor([[0.9, 0.75]]), torch.tensor([[0.7, 0.6, 0.66]]))
    assert (kept(found.pos_where), kept(found.where)) == ([1], [0, 2])
    found = multi_similarity(0.1).masks(torch.tensor([[0.9, 0.8]]), torch.tensor([[0.1, 0.2]]))
    assert (kept(found.pos_where), kept(found.where)) == ([1], [1])


def test_a_tenth_of_thirty_is_three():
    for n in (10, 30, 70, 1000, 100_000):
        assert top_fraction(0.1)(torch.zeros(1), torch.arange(n)[None].float()).sum() == n // 10


def test_a_share_is_of_what_is_there():
    where = torch.arange(6) > 1
    assert kept(top_fraction(0.5)(POS, NEG, where=where)) == [2, 3]


# ------------------------------------------------------------------------------------------------------ false negatives


def test_below_zero_the_filter_still_lies_below_the_positive():
    """A fraction of a negative score would lie above it: 0.5 times -1 lets -0.6 pass."""
    found = false_negative_filter(0.5)(torch.tensor([-1.0]), torch.tensor([[-0.6, -1.4, -1.6]]))
    assert kept(found) == [2]


def test_a_teacher_judges_by_its_own_scores():
    teacher, teacher_pos = torch.tensor([[1.0, 5.0, 9.6, 2.0, 9.4, 0.0]]), torch.tensor([10.0])
    judge = false_negative_filter(0.95, by="teacher")
    assert kept(judge(POS, NEG, teacher=teacher, teacher_pos=teacher_pos)) == [0, 1, 3, 4, 5]
    # All are suspect: the least of them remains, by the teacher.
    assert kept(judge(POS, NEG, teacher=teacher + 20, teacher_pos=teacher_pos)) == [5]


def test_known_positives_are_dropped():
    known = torch.tensor([[True, False, False, True, False, False]])
    assert kept(false_negative_filter(by="known")(POS, NEG, known=known)) == [1, 2, 4, 5]
    assert kept(false_negative_filter(by="known")(POS, NEG, known=torch.ones_like(known))) == [5]


def test_where_all_are_suspect_the_least_suspect_remains():
    assert kept(false_negative_filter(0.95)(torch.tensor([-5.0]), NEG)) == [5]


def test_without_positives_nothing_is_suspect():
    assert false_negative_filter(1.0)(POS, NEG, pos_where=torch.tensor([False])).all()


# ---------------------------------------------------------------------------------------------------------- composition


def test_rules_apply_from_left_to_right():
    first, second = hardest(3), false_negative_filter(0.95)
    assert kept((first & second)(POS, NEG)) == [2]
    assert kept((second & first)(POS, NEG)) == [2, 3, 4]  # three of those that pass
    where = second(POS, NEG)
    assert (second & first)(POS, NEG).equal(first(POS, NEG, where=where))


def test_a_miner_is_its_text():
    miner = hardest(10) & false_negative_filter(0.95)
    assert repr(miner) == "hardest(10) & false_negative_filter(0.95, margin=0.0, by='scores')"
    assert repr(none() & none()) == "none()" and repr(none() & hardest(1)) == "hardest(1)"
    for entry in MINERS:
        assert entry.name in repr(entry())
    with pytest.raises(TypeError):
        hardest(1) & 3


def test_joined_miners_share_their_inputs():
    miner = false_negative_filter(by="teacher") & false_negative_filter(by="known") & hardest(1)
    assert set(miner.inputs) == {"teacher", "teacher_pos", "known"}
    teacher, known = torch.tensor([[9.0, 1.0, 1, 1, 1, 1]]), torch.tensor([[False, True, False, False, False, False]])
    assert kept(miner(POS, NEG, teacher=teacher, teacher_pos=torch.tensor([5.0]), known=known)) == [2]


def test_the_text_of_a_miner_is_read():
    for entry in MINERS:
        assert repr(parse(repr(entry()))) == repr(parse(entry.name)) == repr(entry())
    for text in (
        "hardest(3) & hard()",
        "semi_hard(0.1234567891)",
        "margin_band(-0.5, 0.25) & hard() & top_fraction(1)",
    ):
        assert repr(parse(text)) == text
    assert repr(parse(" hard&hardest( k = 2 )\n")) == "hard() & hardest(2)"


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("hardest | hard", ConfigError, "miner 'hardest | hard' must be names with parameters, joined by &"),
        ("hardest(", ConfigError, "must be names with parameters"),
        ("", ConfigError, "must be names with parameters"),
        ("a.b(3)", ConfigError, "must be names with parameters"),
        ("hardest(open('x'))", ConfigError, "must be names with parameters"),
        ("hardest(*[3])", ConfigError, "must be names with parameters"),
        ("hardest(m=3)", ConfigError, "miner hardest(m=3): got an unexpected keyword argument 'm'. See the parameters"),
        ("hardest(**{'k': 3})", ConfigError, "got an unexpected keyword argument 'None'"),
        ("hardest(1, 2)", ConfigError, "too many positional arguments"),
        ("hardest('ten')", ConfigError, "miner hardest('ten'): '<' not supported"),
        ("hardest(0)", InputError, "k must be at least 1: got 0."),
        ("hardest(2) & hardets(3)", UnknownName, "unknown miner 'hardets'. Did you mean 'hardest'?"),
    ],
)
def test_other_texts_are_refused(text, error, says):
    with pytest.raises(error, match=re.escape(says)):
        parse(text)


# ----------------------------------------------------------------------------------------------------------- identities


def test_hardest_is_top_k_of_any_loss():
    pos, neg = scores()
    for loss in (sampled_softmax_loss, contrast_hinge_loss, mml_loss):
        same(loss(pos, neg, where=hardest(7)(pos, neg)), loss(pos, neg.topk(7).values), neg)


def test_the_hardest_with_a_hinge_is_simce_and_batch_hard():
    pos, neg = scores()
    mined = contrast_hinge_loss(pos, neg, where=hardest(1)(pos, neg), margin=0.3)
    same(mined, simce_loss(pos, neg, margin=0.3), neg)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double).requires_grad_()
    y = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    where = hardest(1).in_batch(negative_squared_euclidean(x, y))
    same(triplet_loss(x, y, where=where), triplet_loss(x, y, mining="batch_hard"), x)


@pytest.mark.parametrize(("miner", "mining"), [(hard(), "hard"), (semi_hard(0.7), "semi_hard")], ids=["hard", "semi"])
def test_hard_and_semi_hard_are_those_of_the_triplet_loss(miner, mining):
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(2), dtype=torch.double).requires_grad_()
    y = x.detach() + torch.randn(30, 3, generator=torch.Generator().manual_seed(3), dtype=torch.double)
    own = {"margin": 0.7, "similarity": "cosine", "reduction": "none"}
    inside = triplet_loss(x, y, mining=mining, **own)
    outside = in_batch(hinge_loss)(x, y, where=miner.in_batch(cosine(x, y)), margin=0.7, reduction="none")
    some = inside != 0  # where there are none, the miner leaves the hardest
    assert some.sum() > 20
    same(inside[some].sum(), outside[some].sum(), x)


def test_multi_similarity_is_the_mining_of_its_loss():
    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(4), dtype=torch.double).requires_grad_()
    labels = torch.arange(24) % 6
    positives = labels[:, None] == labels
    apart = ~torch.eye(24, dtype=torch.bool)
    mined = multi_similarity(0.3).in_batch(cosine(x, x), positives & apart, where=apart)
    assert (apart & ~mined).sum() > 0
    inside = multi_similarity_loss(x, x, positives=positives, where=apart, epsilon=0.3)
    same(inside, multi_similarity_loss(x, x, positives=positives, where=mined), x)


def test_multi_margin_pushes_each_band_alike():
    """The slope of the loss by a negative is that of its band; the bands together, and what is below, are all."""
    margins, weights, scale = (0.6, 0.7, 0.9), (0.05, 0.15, 0.8), 10.0
    pos, neg = scores(rows=3, n=400)
    loss = mml_loss(pos, neg, margins=margins, margin_weights=weights, neg_weight=scale, reduction="sum")
    (slopes,) = torch.autograd.grad(loss, neg)
    covered = torch.zeros_like(slopes, dtype=torch.bool)
    edges = [-1.0, *margins, 1.0]
    for band in range(4):
        inside = margin_band(edges[band], edges[band + 1])(pos, neg)
        expected = scale / 400 * sum(weights[:band])
        torch.testing.assert_close(slopes[inside], torch.full_like(slopes[inside], expected))
        assert not (covered & inside).any()
        covered |= inside
    assert covered.all()


def test_easy_positive_is_the_loss_of_the_best_positive():
    generator = torch.Generator().manual_seed(0)
    pos, neg = (torch.rand(4, n, generator=generator).requires_grad_() for n in (3, 8))
    found = easy_positive().masks(pos, neg)
    mined = contrast(hinge_loss)(pos, neg, pos_where=found.pos_where, where=found.where)
    same(mined, contrast_hinge_loss(pos.amax(-1), neg), pos)


def test_in_a_batch_positives_stay():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(5))
    where = hardest(2).in_batch(cosine(x, x))
    assert where.diagonal().all() and where.sum(-1).tolist() == [3] * 5
    similarities = cosine(x, x).fill_diagonal_(-math.inf).topk(2).values / 0.05
    expected = torch.cat([torch.full((5, 1), 1 / 0.05), similarities], -1).logsumexp(-1) - 1 / 0.05
    torch.testing.assert_close(info_nce_loss(x, x, where=where, reduction="none"), expected, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------------- distance weighted


def test_frequencies_are_inverse_to_the_density_of_distances():
    """Chi-square over 40,000 draws of one negative; the weights by the paper's formula, in plain Python."""
    dim, rows = 8, 40_000
    neg = [0.95, 0.6, 0.4, 0.2, 0.05, -0.5]
    distances = [max(math.sqrt(2 - 2 * s), 0.5) for s in neg]  # 0.95 is nearer than the cutoff
    inverse = [d ** (2 - dim) * (1 - d * d / 4) ** (-(dim - 3) / 2) for d in distances[:5]]
    expected = torch.tensor(inverse) / sum(inverse) * rows
    drawn = distance_weighted(1, dim=dim)(
        torch.ones(rows), torch.tensor(neg).expand(rows, 6), generator=torch.Generator().manual_seed(0)
    )
    assert drawn.sum(-1).eq(1).all()
    counts = drawn.sum(0)
    assert counts[5] == 0  # at 1.73, beyond 1.4
    statistic = ((counts[:5] - expected) ** 2 / expected).sum()
    assert statistic < 18.5  # four degrees of freedom: exceeded once in a thousand


def test_uniform_points_are_met_at_all_distances():
    """Of uniform points on a sphere, nearly all at distance 1.41, draws come from the whole range."""
    generator = torch.Generator().manual_seed(1)
    points = torch.nn.functional.normalize(torch.randn(200_000, 16, generator=generator), dim=-1)
    cosines = points[:, 0][None]
    drawn = distance_weighted(2000, dim=16, cutoff=0.1, far=1.4)(torch.ones(1), cosines, generator=generator)
    distances = (2 - 2 * cosines[drawn]).sqrt()
    assert len(distances) == 2000
    everywhere = (2 - 2 * cosines[0]).sqrt()
    share = (everywhere[everywhere < 1.4] < 1.1).float().mean()
    assert share < 0.2 and (distances < 1.1).float().mean() > 0.35


def test_it_draws_so_many_without_replacement():
    neg = torch.linspace(0.1, 0.9, 12).expand(50, 12)
    drawn = distance_weighted(5, dim=4)(torch.ones(50), neg, generator=torch.Generator().manual_seed(0))
    assert drawn.sum(-1).tolist() == [5] * 50 and len(set(map(tuple, drawn.tolist()))) > 10
    far = distance_weighted(5)(torch.ones(1), torch.tensor([[-0.9, -0.2, -0.5]]), generator=torch.Generator())
    assert kept(far) == [1]


def test_without_a_generator_it_does_not_draw():
    with pytest.raises(InputError, match=r"give a torch\.Generator"):
        distance_weighted()(POS, NEG)


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: hardest(0), "k must be at least 1: got 0."),
        (lambda: top_fraction(0.0), "fraction must be above 0 and at most 1: got 0.0."),
        (lambda: top_fraction(1.5), "fraction must be above 0 and at most 1: got 1.5."),
        (lambda: semi_hard(0.0), "margin must be above 0: got 0.0."),
        (lambda: multi_similarity(math.nan), "epsilon must be above 0: got nan."),
        (lambda: margin_band(0.9, 0.7), "low must be below high: got low 0.9, high 0.7."),
        (lambda: distance_weighted(cutoff=1.5), "0 < cutoff < far <= 2: got k 10, dim 64, cutoff 1.5, far 1.4."),
        (lambda: false_negative_filter(0.0), "fraction must be above 0 and at most 1, and margin at least 0"),
        (lambda: false_negative_filter(margin=-1.0), "got fraction 0.95, margin -1.0."),
        (lambda: false_negative_filter(by="teachers"), "by must be one of scores, teacher, known: got 'teachers'."),
    ],
)
def test_own_parameters_are_checked(make, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        make()


def test_calls_are_checked():
    with pytest.raises(InputError, match=r"pos must be \[\*b\]"):
        hardest(1)(POS, NEG.T)
    with pytest.raises(InputError, match="where must be boolean"):
        hardest(1)(POS, NEG, where=torch.ones(6))
    with pytest.raises(InputError, match=r"hardest\(1\) takes no inputs: got teacher\."):
        hardest(1)(POS, NEG, teacher=NEG)
    with pytest.raises(InputError, match=r"by='teacher'\) needs teacher_pos: give tensors of these names"):
        false_negative_filter(by="teacher")(POS, NEG, teacher=NEG)
    with pytest.raises(InputError, match=r"known must have the shape of neg \(1, 6\): got \(6,\)"):
        false_negative_filter(by="known")(POS, NEG, known=torch.ones(6, dtype=torch.bool))
    with pytest.raises(InputError, match="known must be boolean"):
        false_negative_filter(by="known")(POS, NEG, known=torch.ones(1, 6))
    with pytest.raises(InputError, match=r"positives must be boolean, of the shape of scores \(1, 6\): got \(6,\)"):
        hardest(1).in_batch(NEG, torch.ones(6, dtype=torch.bool))
    with pytest.raises(InputError, match="got 6 queries and only 1 items"):
        hardest(1).in_batch(NEG.T)


# ------------------------------------------------------------------------------------------------------------- registry


def test_the_registry_knows_them_with_their_parameters():
    assert MINERS["hardest"](k=3)(POS, NEG).sum() == 3
    with pytest.raises(UnknownName, match="Did you mean 'hardest'"):
        MINERS["hardes"]
    assert MINERS["hardest"].parameters["k"].search.high == 100
    assert {entry.kind for entry in MINERS} == {"negatives", "positives", "both"}
    text = (Path(__file__).parents[1] / "references.bib").read_text()
    for entry in MINERS:
        if entry.name != "none":
            assert f"{{{entry.paper}," in text and f":cite:`{entry.paper}`" in entry.function.__doc__


def test_a_miner_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from rankwell.miners import MINERS, Miner, Step\n"
        '@MINERS.register("negatives")\n'
        "def above_own(threshold: float = 0.5) -> Miner:\n"
        "    return Miner((Step('above_own()', lambda seen: seen.neg > threshold),))\n"
    )
    assert kept(MINERS[f"{file}:above_own"](threshold=0.7)(POS, NEG)) == [0, 1, 2]
    MINERS._entries.pop("above_own")
    file = tmp_path / "wrong.py"
    file.write_text(
        "from rankwell.miners import MINERS, Miner\n"
        '@MINERS.register("negatives")\n'
        "def untyped(threshold=0.5):\n"
        "    return Miner()\n"
    )
    with pytest.raises(ConfigError, match="must be keyword-only, typed and have a default"):
        MINERS[f"{file}:untyped"]
