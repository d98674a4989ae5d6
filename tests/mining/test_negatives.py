"""Hard negatives of embeddings, against loops and by hand."""

import math

import pytest
import torch

from rankwell.errors import InputError
from rankwell.keyed import mix, words
from rankwell.mining import Mined, MiningSettings, Vectors, mine, mine_blocks
from rankwell.mining.search import Exact
from rankwell.types import Ragged


def ragged(*lists):
    values = [value for one in lists for value in one]
    return Ragged(torch.tensor([0, *map(len, lists)]).cumsum(0), torch.tensor(values, dtype=torch.int64))


# Documents on the unit circle by their angle in degrees: a cosine with the query at 0 is that of the angle.
ANGLES = [0, 20, 25, 40, 60, 80, 90, 120]
CIRCLE = torch.tensor([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in ANGLES])
QUERY = torch.tensor([[1.0, 0.0]])


def by_hand(positives, **settings):
    return mine(QUERY, CIRCLE, ragged(positives), MiningSettings(**settings))


def test_the_best_that_are_no_positives():
    found = by_hand([0, 2], num_negatives=3)
    assert found.queries.tolist() == [0, 0] and found.positives.tolist() == [0, 2]
    assert found.negatives.tolist() == [[1, 3, 4]] * 2
    expected = torch.tensor([math.cos(math.radians(angle)) for angle in (20, 40, 60)])
    torch.testing.assert_close(found.negative_scores, expected.expand(2, 3))
    torch.testing.assert_close(found.positive_scores, torch.tensor([1.0, math.cos(math.radians(25))]))


def test_range_min_counts_what_passes_the_rules():
    # The cosine of 20 degrees is 0.94: it falls to the maximum, 25 to range_min.
    found = by_hand([0], num_negatives=2, range_min=1, max_score=0.93)
    assert found.negatives.tolist() == [[3, 4]]
    assert found.dropped == {"max_score": 1, "range_min": 1}


def test_range_max_bounds_the_window():
    found = by_hand([0], num_negatives=2, range_max=3, max_score=0.8)  # candidates 20, 25 and 40 degrees
    assert found.negatives.tolist() == [[3, -1]] and found.candidates == 3
    assert found.negative_scores[0, 1] == -torch.inf


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"absolute_margin": 0.2}, [3, 4, 5]),  # at most 0.8: 40 degrees have 0.77
        ({"relative_margin": 0.2}, [3, 4, 5]),
        ({"absolute_margin": 0.0}, [1, 2, 3]),
        ({"max_score": 0.5 + 1e-6}, [4, 5, 6]),
        ({"min_score": 0.7}, [1, 2, 3]),
        ({"min_score": 0.7, "max_score": 0.9}, [3, -1, -1]),
    ],
)
def test_each_rule(settings, kept):
    assert by_hand([0], **settings).negatives.tolist() == [kept]


def test_the_relative_margin_of_a_positive_below_zero_lies_below_it():
    # The positive at 120 degrees has -0.5; a margin of 20 % leaves at most -0.6, which nobody has.
    assert by_hand([7], relative_margin=0.2).negatives.tolist() == [[-1, -1, -1]]
    assert by_hand([7], relative_margin=-1.2, num_negatives=1).negatives.tolist() == [[6]]  # up to 0.1


def test_margins_are_held_against_the_lowest_own_or_highest_positive():
    margins = ("lowest", "own", "highest")
    rows = {to: by_hand([0, 3], absolute_margin=0.05, num_negatives=1, margin_to=to) for to in margins}  # 1 and 0.77
    assert rows["lowest"].negatives.tolist() == [[4], [4]]  # at most 0.72
    assert rows["own"].negatives.tolist() == [[1], [4]]  # the first at most 0.95: 20 degrees have 0.94
    assert rows["highest"].negatives.tolist() == [[1], [1]]


def test_excluded_documents_are_no_candidates():
    found = mine(QUERY, CIRCLE, ragged([0]), MiningSettings(2), excluded=ragged([1, 3]))
    assert found.negatives.tolist() == [[2, 4]]


def test_dot_products_are_of_the_vectors_as_they_are():
    documents = CIRCLE * torch.tensor([1, 1, 1, 1, 4, 1, 1, 1])[:, None]
    assert mine(QUERY, documents, ragged([0]), MiningSettings(1, similarity="dot")).negatives.tolist() == [[4]]
    assert mine(QUERY, documents, ragged([0]), MiningSettings(1)).negatives.tolist() == [[1]]


def data(queries=17, documents=60, dim=5):
    generator = torch.Generator().manual_seed(3)
    lists = [torch.randperm(documents, generator=generator)[: row % 4].tolist() for row in range(queries)]
    return (
        torch.randn(queries, dim, generator=generator),
        torch.randn(documents, dim, generator=generator),
        ragged(*lists),
    )


def loop(queries, documents, positives, settings, row):
    """One query's negatives for each of its positives, said once more in words."""
    cosines = torch.nn.functional.cosine_similarity(queries[row : row + 1], documents)
    own = positives.values[positives.offsets[row] : positives.offsets[row + 1]].tolist()
    ranked = [one for one in cosines.argsort(descending=True).tolist() if one not in own][: settings.window()]
    keys = words(mix(settings.seed), torch.tensor(row), torch.arange(len(documents))).tolist()
    results = []
    for positive in own:
        limits = {"own": [positive], "lowest": own, "highest": own}[settings.margin_to]
        limit = (max if settings.margin_to == "highest" else min)(float(cosines[one]) for one in limits)
        left = [
            one
            for one in ranked
            if (settings.absolute_margin is None or float(cosines[one]) <= limit - settings.absolute_margin)
            and (
                settings.relative_margin is None or float(cosines[one]) <= limit - abs(limit) * settings.relative_margin
            )
            and (settings.max_score is None or float(cosines[one]) <= settings.max_score)
            and (settings.min_score is None or float(cosines[one]) >= settings.min_score)
        ][settings.range_min :]
        if settings.sampling_strategy == "random":
            drawn = sorted(left, key=keys.__getitem__)[: settings.num_negatives]
            left = [one for one in left if one in drawn]
        left = left[: settings.num_negatives]
        results.append(left + [-1] * (settings.num_negatives - len(left)))
    return results


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_negatives": 5, "range_min": 3, "range_max": 20},
        {"relative_margin": 0.1, "range_min": 2},
        {"absolute_margin": 0.2, "margin_to": "own"},
        {"absolute_margin": 0.2, "margin_to": "highest", "min_score": -0.2},
        {"max_score": 0.5, "min_score": 0.0},
        {"sampling_strategy": "random", "seed": 7},
        {"sampling_strategy": "random", "range_max": 12, "range_min": 2, "max_score": 0.8, "margin_to": "own"},
        {"range_max": 200},
    ],
    ids=lambda settings: ",".join(settings) or "default",
)
def test_as_a_loop(settings):
    queries, documents, positives = data()
    asked = MiningSettings(**settings)
    found = mine(queries, documents, positives, asked)
    expected = [loop(queries, documents, positives, asked, row) for row in range(len(queries))]
    assert found.negatives.tolist() == [negatives for rows in expected for negatives in rows]
    assert found.queries.tolist() == [row for row in range(len(queries)) for _ in expected[row]]


@pytest.mark.parametrize("block", [1, 2, 7, 59, 61])
@pytest.mark.parametrize("strategy", ["top", "random"])
def test_blocks_change_nothing(block, strategy):
    queries, documents, positives = data()
    whole = mine(queries, documents, positives, MiningSettings(sampling_strategy=strategy, relative_margin=0.1))
    asked = MiningSettings(sampling_strategy=strategy, relative_margin=0.1, block=block)
    found = mine(queries, documents, positives, asked)
    assert found.negatives.equal(whole.negatives) and found.queries.equal(whole.queries)
    assert (found.candidates, found.dropped) == (whole.candidates, whole.dropped)
    torch.testing.assert_close(found.negative_scores, whole.negative_scores)


def test_blocks_come_one_by_one():
    queries, documents, positives = data()
    seen = []
    blocks = mine_blocks(queries, documents, positives, MiningSettings(block=4), progress=lambda *at: seen.append(at))
    first = next(blocks)
    assert first.queries.unique().tolist() == [1, 2, 3, 5] and seen == []
    rest = list(blocks)
    assert seen == [(4, 12), (8, 12), (12, 12)]  # of 17 queries, every fourth has no positive, from the first on
    assert Mined.joined([first, *rest]).negatives.equal(mine(queries, documents, positives).negatives)


@pytest.mark.parametrize("block", [1, 2, 3, 8])
def test_equal_scores_go_by_the_lower_number(block):
    documents = CIRCLE[[3, 1, 1, 0, 1, 3, 3, 1]]
    found = Exact(Vectors([documents], unit=False), block)(QUERY, ragged([2]), 4)
    assert found.ids.tolist() == [[3, 1, 4, 7]]
    assert Exact(Vectors([documents], unit=False), block)(QUERY, ragged([2]), 3).ids.tolist() == [[3, 1, 4]]


@pytest.mark.parametrize("known", [[], [5], [0, 1, 2, 3, 4, 5, 6]])
def test_fewer_documents_than_asked_for(known):
    found = Exact(Vectors([CIRCLE], unit=False), 3)(QUERY, ragged(known), 12)
    left = [one for one in range(8) if one not in known]
    assert found.ids.tolist() == [left + [-1] * (12 - len(left))]
    assert found.scores[0, len(left) :].eq(-torch.inf).all()


def test_a_query_that_knows_everything_has_no_negatives():
    found = mine(QUERY, CIRCLE, ragged(range(8)))
    assert len(found.queries) == 8 and found.negatives.eq(-1).all() and found.candidates == 0


def test_one_document():
    assert mine(QUERY, CIRCLE[:1], ragged([0])).negatives.tolist() == [[-1, -1, -1]]


def test_random_draws_are_fair():
    """Each of ten candidates is one of the three drawn in 3 of 10 queries."""
    queries = QUERY.expand(4000, 2)
    documents = torch.cat([QUERY, torch.randn(10, 2, generator=torch.Generator().manual_seed(0))])
    positives = Ragged(torch.arange(4001), torch.zeros(4000, dtype=torch.int64))
    found = mine(queries, documents, positives, MiningSettings(sampling_strategy="random", range_max=10))
    counts = torch.bincount(found.negatives.flatten(), minlength=11)[1:]
    expected = 4000 * 3 / 10
    # A count is a sum of draws without replacement: its variance is n p (1 - p), and the ten are tied by their sum.
    chi_square = float(((counts - expected) ** 2 / (expected * (1 - 3 / 10))).sum()) * 9 / 10
    assert counts.sum() == 12_000 and chi_square < 27.9  # the 0.1 % point of nine degrees
    other = mine(queries, documents, positives, MiningSettings(sampling_strategy="random", range_max=10, seed=1))
    assert not other.negatives.equal(found.negatives)


def test_rescoring_orders_and_judges():
    def judge(queries, documents):
        assert queries.eq(0).all()
        return torch.tensor([0.5, 0.9, 0.1, 0.3, 0.2, 0.0, 0.0, 0.0])[documents]

    found = mine(QUERY, CIRCLE, ragged([0]), MiningSettings(2, range_max=4, absolute_margin=0.1), rescore=judge)
    assert found.negatives.tolist() == [[3, 4]] and found.dropped == {"absolute_margin": 1}  # 1 has 0.9, above 0.4
    torch.testing.assert_close(found.negative_scores, torch.tensor([[0.3, 0.2]]))
    torch.testing.assert_close(found.positive_scores, torch.tensor([0.5]))
    with pytest.raises(InputError, match="the rescorer must give finite scores"):
        mine(QUERY, CIRCLE, ragged([0]), rescore=lambda queries, _: torch.full((len(queries),), torch.nan))


@pytest.mark.parametrize("index", ["flat", "ivf", "hnsw"])
def test_faiss_finds_the_same(index):
    queries, documents, positives = data(documents=700, dim=8)
    settings = {"relative_margin": 0.1, "range_min": 1}
    exact = mine(queries, documents, positives, MiningSettings(**settings))
    found = mine(queries, documents, positives, MiningSettings(**settings, index=index, block=5))
    if index == "flat":
        assert found.negatives.equal(exact.negatives) and found.dropped == exact.dropped
        torch.testing.assert_close(found.negative_scores, exact.negative_scores)
    same = (found.negatives[:, :, None] == exact.negatives[:, None]).any(-1).float().mean()
    assert same > {"flat": 0.999, "ivf": 0.3, "hnsw": 0.95}[index]  # one cell in eight is looked at
    for query, negatives in zip(found.queries.tolist(), found.negatives.tolist(), strict=True):
        own = positives.values[positives.offsets[query] : positives.offsets[query + 1]].tolist()
        assert not set(own) & set(negatives)


def test_vectors_of_parts_and_rows_are_those_of_the_whole():
    queries, documents, positives = data()
    parts = Vectors([documents[:7], documents[7:30], documents[30:].half().float()], unit=True)
    whole = Vectors([torch.cat(parts.parts)], unit=True)
    asked = MiningSettings(block=4)
    some = mine(Vectors([queries], unit=True), parts, positives, asked)
    assert some.negatives.equal(mine(Vectors([queries], unit=True), whole, positives, asked).negatives)
    rows = torch.tensor([1, 6, 7, 29, 30, 59])
    chosen = Vectors(parts.parts, unit=False, rows=rows)
    assert torch.cat([block for _, block in chosen.blocks(4)]).equal(torch.cat(parts.parts)[rows])
    assert [first for first, _ in chosen.blocks(4)] == [0, 4]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_negatives": 0}, "num_negatives must be a whole number of at least 1: got 0."),
        ({"range_min": -1}, "range_min must be a whole number of at least 0: got -1."),
        ({"block": 0}, "block must be a whole number"),
        ({"range_min": 8, "range_max": 10}, "range_max must leave room for num_negatives above range_min"),
        ({"relative_margin": math.nan}, "relative_margin must be a finite number: got nan."),
        ({"min_score": 0.5, "max_score": 0.4}, "min_score must not be above max_score"),
        ({"sampling_strategy": "rand"}, "got 'rand'. Did you mean 'random'?"),
        ({"index": "flta"}, "Did you mean 'flat'?"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_are_wrong(settings, says):
    with pytest.raises(InputError) as caught:
        MiningSettings(**settings)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((QUERY, CIRCLE, ragged([0], [1])), "positives must hold a list for each of the 1 queries: it has 2."),
        ((QUERY, CIRCLE, ragged([8])), r"positives must be numbers of documents, in \[0, 8\): got 8 to 8."),
        ((QUERY, torch.ones(3, 3), ragged([0])), "vectors of one size: got 2 and 3."),
        ((QUERY, CIRCLE, ragged([])), "at least one query must have a positive: none has."),
        ((QUERY, torch.full((2, 2), torch.nan), ragged([0])), "embeddings must hold finite numbers"),
        ((QUERY, CIRCLE.long(), ragged([0])), "embeddings must be a matrix of floating-point numbers"),
    ],
    ids=["lists", "number", "size", "none", "nan", "dtype"],
)
def test_arguments_that_are_wrong(args, says):
    with pytest.raises(InputError, match=says):
        mine(*args)
