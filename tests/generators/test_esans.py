import math

import pytest
import torch
from scenes import DIM, KNOWN, Catalogue, build, scene

from rankwell.errors import InputError
from rankwell.generators import Esans

FIRST = [0, 0, 0, 1, 1, 2]
"""First-level clusters of six items; within, items 0 and 1 are alike and 2 is not, items 3 and 4 are not."""
ITEMS = 6


def clustered(**own) -> Esans:
    """With clusters set by hand: centres 0 and 1 are log 2 apart, 0 and 2 log 4, 1 and 2 log 8."""
    known = KNOWN._replace(offsets=torch.zeros(10, dtype=torch.int64), values=torch.zeros(0, dtype=torch.int64))
    make = Esans(known, ITEMS, DIM, **{"seed": 0, "clusters": 3, "subclusters": 2, **own})
    make.first.copy_(torch.tensor(FIRST))
    make.second.copy_(torch.tensor([0, 0, 1, 0, 1, 0]))
    logs = torch.tensor([[1.0, 2, 4], [2, 1, 8], [4, 8, 1]]).log()
    make.distances.copy_(logs)
    return make


def marked(b: int, positive: int, **own):
    """All six items as negatives of each row; item i's vector is the i-th unit vector."""
    pool = torch.eye(ITEMS, dtype=torch.float32)
    one = torch.zeros(b, ITEMS)
    return scene(
        b,
        positive_ids=torch.full((b,), positive),
        negative_ids=torch.arange(ITEMS),
        negatives=pool,
        positives=one,
        queries=one,
        **own,
    )


def test_easy_ends_come_from_other_clusters_as_their_distance_says():
    b = 3000
    where = torch.ones(b, ITEMS, dtype=torch.bool)
    where[:, 0] = False
    made = clustered(easy=1, hard=0)(marked(b, 0, where=where)).vectors[:, 0]
    ends = made.count_nonzero(1)
    # Cluster 1 with weight 1/2, cluster 2 with 1/4; items 3 and 4 share what cluster 1 has.
    q = torch.tensor([0, 0, 0, 1 / 3, 1 / 3, 1 / 3])
    drawn = torch.stack([(made[:, i] > 0).float().mean() for i in range(ITEMS)])
    expected = 1 - (1 - q) ** 2  # at least one of two draws
    assert not drawn[:3].any()
    assert (drawn - expected).abs().max() < 4 * math.sqrt(0.25 / b)
    assert (made.sum(1) - 1).abs().max() < 1e-6 and ends.max() == 2


def test_hard_points_are_of_the_positives_cluster_and_another_second_one():
    made = clustered(easy=0, hard=5, beta_min=0.2, beta_max=0.4)(marked(50, 0))
    assert made.where.all() and made.beside
    others = made.vectors.clone()
    others[..., 2] = 0
    assert not others.any()  # item 2 alone; the positive's vector is zero
    beta = 1 - made.vectors[..., 2]
    assert (beta >= 0.2).all() and (beta < 0.4).all() and beta.max() - beta.min() > 0.15


def test_rows_whose_negatives_have_nobody_there_go_without():
    where = torch.ones(2, ITEMS, dtype=torch.bool)
    where[1, 2] = False
    made = clustered(easy=1, hard=1)(marked(2, 0, where=where))
    assert made.where.tolist() == [[True, True], [True, False]]
    made = clustered(easy=1, hard=1)(marked(2, 5))  # alone in its cluster
    assert made.where.tolist() == [[True, False]] * 2


def test_before_the_first_clustering_easy_points_are_between_any_two():
    make = build("esans", easy=40)
    fresh = Esans(KNOWN, 30, DIM, seed=3, easy=40, hard=4, clusters=3, subclusters=2)
    made = fresh(scene())
    assert made.where[:, :40].all() and not made.where[:, 40:].any()
    assert make.distances.any() and not fresh.distances.any()


def test_clusters_follow_the_model_every_few_steps():
    drawn = torch.Generator().manual_seed(0)
    make = build("esans", refresh=10)
    tables = [torch.randn(30, DIM, generator=drawn) for _ in range(3)]
    before = make.first.clone()
    make.update(scene(step=9, scorer=Catalogue(tables[0])))
    assert make.first.equal(before)
    make.update(scene(step=10, scorer=Catalogue(tables[1])))
    assert not make.first.equal(before)


def test_views_are_clustered_once():
    views = [torch.eye(3).repeat_interleave(2, 0), torch.eye(2).repeat(3, 1)]
    known = KNOWN._replace(offsets=torch.zeros(10, dtype=torch.int64), values=torch.zeros(0, dtype=torch.int64))
    make = Esans(known, 6, DIM, seed=1, item_views=views, clusters=6, subclusters=1)
    assert len(make.first.unique()) == 6  # both views together tell all items apart
    before = make.first.clone()
    make.update(scene(step=0))  # no scorer is needed
    assert make.first.equal(before)


def test_arguments():
    with pytest.raises(InputError, match="at least one point, with beta_min <= beta_max < 1"):
        build("esans", easy=0, hard=0)
    for betas in ({"beta_max": 1.0}, {"beta_min": 0.6}, {"beta_min": -math.inf}):
        with pytest.raises(InputError, match="at least one point, with beta_min <= beta_max < 1"):
            build("esans", **betas)
    with pytest.raises(InputError, match="one row for each of 30 items"):
        build("esans", item_views=[torch.ones(4, 2)])
    with pytest.raises(InputError, match="views must be finite matrices"):
        build("esans", item_views=[torch.full((30, 2), math.nan)])
    with pytest.raises(InputError, match=r"this model has none\. Give item_views"):
        Esans(KNOWN, 30, DIM, seed=0).update(scene(step=0))
