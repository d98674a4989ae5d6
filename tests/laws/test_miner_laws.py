"""Laws of miners, over their registry."""

import math

import pytest
import torch
from torch import Tensor

from rankwell.miners import (
    MINERS,
    Miner,
    false_negative_filter,
    hardest,
    margin_band,
    multi_similarity,
    parse,
    top_fraction,
)

ROWS, M, N = 6, 3, 9
MINERS_BY_TEXT = {
    repr(one): one
    for one in (
        *(entry() for entry in MINERS),
        hardest(2),
        hardest(100),
        top_fraction(0.5),
        false_negative_filter(1.0, margin=0.3),
        false_negative_filter(by="teacher"),
        false_negative_filter(by="known"),
        multi_similarity(0.4),
        margin_band(-0.5, 0.5),
        false_negative_filter(0.5) & hardest(2),
        hardest(4) & false_negative_filter(0.5) & multi_similarity(0.2),
    )
}
each = pytest.mark.parametrize("miner", MINERS_BY_TEXT.values(), ids=MINERS_BY_TEXT)
DRAWS = "noise belongs to a place in the batch, so that what moves, or stands in another batch, meets other noise"
EXCEPTIONS = {"distance_weighted": DRAWS}


def bound(miner: Miner) -> None:
    if (name := repr(miner).partition("(")[0]) in EXCEPTIONS:
        pytest.skip(EXCEPTIONS[name])


def case(miner: Miner, several: bool, seed: int = 0) -> dict[str, Tensor]:
    """Cosines, of which rows 1 and 2 have one and no negative, row 3 no positive; and the declared inputs."""
    generator = torch.Generator().manual_seed(seed)

    def cosines(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    args = {"pos": cosines(ROWS, M) if several else cosines(ROWS), "neg": cosines(ROWS, N)}
    args["where"] = torch.rand(ROWS, N, generator=generator) < 0.7
    args["where"][1] = torch.arange(N) == 4
    args["where"][2] = False
    args["pos_where"] = torch.rand(args["pos"].shape, generator=generator) < 0.8
    args["pos_where"][3] = False
    for name, given in miner.inputs.items():
        like = args["neg" if given.alignment == "item" else "pos"]
        drawn = cosines(*like.shape)
        args[name] = drawn > 0 if given.holds == "flag" else drawn
    return args


def call(miner: Miner, args: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return miner.masks(**args, generator=torch.Generator().manual_seed(3))


def of_items(miner: Miner) -> list[str]:
    """Arguments along the negatives; all others lie along the positives."""
    return ["neg", "where", *(name for name, given in miner.inputs.items() if given.alignment == "item")]


def cases(miner: Miner) -> list[dict[str, Tensor]]:
    return [case(miner, several, seed) for several in (False, True) for seed in range(4)]


@each
def test_it_is_a_subset_and_leaves_one_at_least(miner):
    for args in cases(miner):
        for found, given in zip(call(miner, args), (args["pos_where"], args["where"]), strict=True):
            assert found.dtype == torch.bool and found.shape == given.shape
            assert not (found & ~given).any()
            if given.ndim > 1:
                assert found.any(-1).equal(given.any(-1))
        assert miner(**args, generator=torch.Generator().manual_seed(3)).equal(call(miner, args)[1])


def test_some_of_each_miner_is_left_out():
    """The laws would hold for miners that do nothing."""
    for text, miner in MINERS_BY_TEXT.items():
        args = case(miner, several=True)
        there = args["pos_where"].sum() + args["where"].sum()
        left = sum(int(found.sum()) for found in call(miner, args))
        assert (left == there) == (text in ("none()", "hardest(100)", "hardest(10)", "distance_weighted(10)")), text


@each
def test_item_order_is_irrelevant(miner):
    bound(miner)
    for args in cases(miner):
        order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
        moved = args | {name: args[name][:, order] for name in of_items(miner)}
        if args["pos"].ndim > 1:
            moved |= {name: x.flip(-1) for name, x in args.items() if name not in of_items(miner)}
        pos_where, where = call(miner, args)
        assert call(miner, moved)[1].equal(where[:, order])
        assert call(miner, moved)[0].equal(pos_where.flip(-1) if args["pos"].ndim > 1 else pos_where)


@each
def test_rows_are_independent(miner):
    bound(miner)
    for args in cases(miner):
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(2))
        for whole, moved in zip(
            call(miner, args), call(miner, {name: x[order] for name, x in args.items()}), strict=True
        ):
            assert moved.equal(whole[order])
        chunks = [call(miner, {name: x[some] for name, x in args.items()}) for some in (slice(0, 1), slice(1, None))]
        for whole, parts in zip(call(miner, args), zip(*chunks, strict=True), strict=True):
            assert torch.cat(parts).equal(whole)


@each
def test_batch_may_have_dimensions(miner):
    for args in cases(miner):
        cube = {name: x.reshape(2, ROWS // 2, *x.shape[1:]) for name, x in args.items()}
        for whole, found in zip(call(miner, args), call(miner, cube), strict=True):
            assert found.flatten(0, 1).equal(whole)
        bound(miner)
        row = call(miner, {name: x[5] for name, x in args.items()})
        for whole, found in zip(call(miner, args), row, strict=True):
            assert found.equal(whole[5])


@each
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf, 1e30])
def test_what_is_masked_is_irrelevant(miner, rubbish):
    for args in cases(miner):
        dirty = dict(args)
        for name, x in args.items():
            if x.dtype != torch.bool:
                dirty[name] = torch.where(args["where" if name in of_items(miner) else "pos_where"], x, rubbish)
        for clean, found in zip(call(miner, args), call(miner, dirty), strict=True):
            assert found.equal(clean)


@each
def test_masked_is_removed(miner):
    bound(miner)
    for args in cases(miner):
        for row, (where, pos_where) in enumerate(zip(args["where"], args["pos_where"], strict=True)):
            if not pos_where.any():
                continue
            kept = {}
            for name, x in args.items():
                side = where if name in of_items(miner) else pos_where
                kept[name] = x[row][side] if side.ndim else x[row]
            pos_kept, neg_kept = call(miner, kept)
            assert neg_kept.equal(call(miner, args)[1][row][where])
            assert pos_kept.equal(call(miner, args)[0][row][pos_where] if pos_where.ndim else pos_kept)


@each
def test_the_same_call_gives_the_same_and_changes_nothing(miner):
    for args in cases(miner):
        before = {name: x.clone() for name, x in args.items()}
        first, second = call(miner, args), call(miner, args)
        assert all(one.equal(other) for one, other in zip(first, second, strict=True))
        assert all(args[name].equal(x) for name, x in before.items())


@each
def test_half_precision_is_compared_in_float32(miner):
    for dtype in (torch.float16, torch.bfloat16):
        for args in cases(miner):
            half = {name: x if x.dtype == torch.bool else x.to(dtype) for name, x in args.items()}
            wide = {name: x if x.dtype == torch.bool else x.float() for name, x in half.items()}
            for one, other in zip(call(miner, half), call(miner, wide), strict=True):
                assert one.equal(other)


@each
def test_nothing_waits_for_the_device(miner):
    """On the meta device there are no numbers to read."""
    if repr(miner).startswith("distance_weighted"):
        pytest.skip("torch draws nothing by a generator on the meta device")
    for args in cases(miner):
        found = miner.masks(**{name: x.to("meta") for name, x in args.items()}, generator=torch.Generator())
        assert [x.shape for x in found] == [args["pos"].shape, args["neg"].shape]


@each
def test_no_gradient_is_recorded(miner):
    args = case(miner, several=True)
    args["pos"].requires_grad_()
    args["neg"].requires_grad_()
    assert not any(found.requires_grad for found in call(miner, args))


@each
def test_extreme_and_equal_scores(miner):
    for value in (0.0, 1e30, -1e30, math.inf, -math.inf):
        args = case(miner, several=True)
        args["neg"] = torch.full_like(args["neg"], value)
        assert call(miner, args)[1].any(-1).equal(args["where"].any(-1))


@each
def test_sizes_of_zero(miner):
    args = case(miner, several=True)
    along = of_items(miner)
    none_at_all = {name: x[:0] for name, x in args.items()}
    no_negatives = {name: x[:, :0] if name in along else x for name, x in args.items()}
    no_positives = {name: x if name in along else x[:, :0] for name, x in args.items()}
    for some in (none_at_all, no_negatives, no_positives):
        pos_where, where = call(miner, some)
        assert pos_where.shape == some["pos"].shape and where.shape == some["neg"].shape
        assert where.any(-1).equal(some["where"].any(-1))


@each
def test_in_a_batch_each_query_is_a_row(miner):
    args = case(miner, several=False)
    generator = torch.Generator().manual_seed(4)
    scores, positives = args["neg"], torch.rand(ROWS, N, generator=generator) < 0.3
    inputs = {
        name: torch.rand(ROWS, N, generator=generator) < 0.5 if given.holds == "flag" else scores.flip(0)
        for name, given in miner.inputs.items()
    }
    found = miner.in_batch(scores, positives, where=args["where"], generator=torch.Generator().manual_seed(3), **inputs)
    sides = {"pos_where": args["where"] & positives, "where": args["where"] & ~positives}
    pos_where, where = call(miner, {"pos": scores, "neg": scores, **sides, **inputs})
    assert found.equal(pos_where | where)
    assert not (found & ~args["where"]).any()


@each
def test_without_masks_all_is_there(miner):
    for args in cases(miner):
        everything = args | {name: torch.ones_like(args[name]) for name in ("where", "pos_where")}
        bare = {name: x for name, x in args.items() if name not in ("where", "pos_where")}
        for one, other in zip(call(miner, everything), call(miner, bare), strict=True):
            assert one.equal(other)


@each
def test_its_text_is_its_name(miner):
    again = parse(repr(miner))
    assert repr(again) == repr(miner)
    for args in cases(miner):
        for one, other in zip(call(miner, args), call(again, args), strict=True):
            assert one.equal(other)
