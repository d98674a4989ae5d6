"""What every metric of recommended items keeps to, as in ``metrics/laws.py``: lists of ids, with neither scores nor labels.

The tests run every law on every registered one, and ``rankwell check`` on one's own. An exception to a law stands beside it,
with its reason.
"""

# mypy: allow-untyped-calls

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.laws import Laws, agree, shown
from rankwell.registry import Entry, Input
from rankwell.types import Ragged

__all__ = ["LAWS"]

LAWS = Laws("user", "catalogue")
law = LAWS.law

USERS, PLACES, ITEMS = 6, 4, 11

close = partial(agree, rtol=2e-6, atol=2e-6)
same = partial(agree, rtol=0, atol=0)


def arguments(entry: Entry[Any], *, users: int = USERS, seed: int = 0) -> dict[str, Any]:
    """Lists without repetitions, some of them short, and what else the metric asks for."""
    draw = torch.Generator().manual_seed(seed)
    items = torch.stack([torch.randperm(ITEMS, generator=draw)[:PLACES] for _ in range(users)])
    items[1, 2:], items[2, 0] = -1, -1
    return {"items": items, **{name: _filled(name, given, users, draw) for name, given in entry.inputs.items()}}


def _filled(name: str, given: Input, users: int, draw: torch.Generator) -> Any:
    if given.alignment == "scalar":
        return ITEMS if name == "num_items" else 1_000
    if given.alignment == "list":
        sizes = torch.randint(1, 5, (users,), generator=draw)
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        return Ragged(offsets, torch.cat([torch.randperm(ITEMS, generator=draw)[:size] for size in sizes]))
    if given.holds == "id":
        return torch.randperm(ITEMS, generator=draw)[:3]
    if given.holds == "count":
        return torch.randint(1, 100, (ITEMS,), generator=draw)
    table = torch.empty(ITEMS, 3).uniform_(-1.2, 1.2, generator=draw)
    return table.abs() if given.holds == "share" else table


def some(args: Mapping[str, Any], rows: list[int]) -> dict[str, Any]:
    """The arguments of some users."""
    return {name: _of_users(x, rows) if name == "items" or isinstance(x, Ragged) else x for name, x in args.items()}


def _of_users(x: Any, rows: list[int]) -> Any:
    if not isinstance(x, Ragged):
        return x[rows]
    lists = [x.values[x.offsets[i] : x.offsets[i + 1]] for i in rows]
    return Ragged(torch.tensor([0, *map(len, lists)]).cumsum(0), torch.cat([x.values[:0], *lists]))


def values_of(entry: Entry[Any], args: Mapping[str, Any]) -> Tensor:
    """A value a user, or the one number of a metric of the catalogue."""
    values: Tensor = entry(**args, **({"reduction": "none"} if entry.kind == "user" else {}))
    return values


@law()
def one_value_a_user_or_one_in_all(entry: Entry[Any]) -> None:
    """A metric of users has a value each, unreduced; one of the catalogue has one number. They are finite, in float32."""
    values = values_of(entry, arguments(entry))
    expected = (USERS,) if entry.kind == "user" else ()
    assert values.shape == expected, f"got values of shape {tuple(values.shape)}, expected {expected}"
    assert values.dtype == torch.float32, f"got {values.dtype}, expected torch.float32"
    assert values.isfinite().all(), f"got {shown(values)}, expected finite values"


@law("user")
def reductions_agree(entry: Entry[Any]) -> None:
    """Sum and mean are those of the values; the mean is also the default."""
    args = arguments(entry)
    values = values_of(entry, args)
    close(entry(**args, reduction="sum"), values.sum())
    close(entry(**args, reduction="mean"), values.mean())
    close(entry(**args), values.mean())


@law("user")
def users_are_independent(entry: Entry[Any]) -> None:
    """Users have alone, and in another order, the values that they have together."""
    args, order = arguments(entry), [3, 0, 5, 1, 4, 2]
    values = values_of(entry, args)
    close(values_of(entry, some(args, order)), values[order])
    for user in range(USERS):
        close(values_of(entry, some(args, [user])), values[[user]])


@law("catalogue")
def order_of_users_is_irrelevant(entry: Entry[Any]) -> None:
    """Users may stand in any order."""
    args = arguments(entry)
    close(values_of(entry, some(args, [3, 0, 5, 1, 4, 2])), values_of(entry, args))


@law()
def order_of_items_is_irrelevant(entry: Entry[Any]) -> None:
    """The recommended items of a user may stand in any order, with places between them where nothing stands."""
    args = arguments(entry)
    expected = values_of(entry, args)
    close(values_of(entry, {**args, "items": args["items"].flip(1)}), expected)
    wider = torch.full((USERS, 2 * PLACES + 1), -1)
    wider[:, 1::2] = args["items"]
    absent = -1 - torch.arange(wider.numel()).view_as(wider)  # of several kinds
    close(values_of(entry, {**args, "items": wider.where(wider >= 0, absent)}), expected)


@law()
def names_of_items_are_irrelevant(entry: Entry[Any]) -> None:
    """The same items under other codes, all of them, have the same values."""
    args = arguments(entry)
    code = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(1))
    old = code.argsort()
    renamed = {"items": torch.where(args["items"] < 0, -1, code[args["items"].clamp(min=0)])}
    for name, given in entry.inputs.items():
        x = args[name]
        if isinstance(x, Ragged):
            renamed[name] = Ragged(x.offsets, code[x.values])  # type: ignore[assignment]
        elif given.alignment == "catalogue":
            renamed[name] = code[x] if given.holds == "id" else x[old]
    close(values_of(entry, {**args, **renamed}), values_of(entry, args))


@law()
def user_without_items_does_not_count(entry: Entry[Any]) -> None:
    """A user to whom nothing is recommended has the value 0, and is not in the mean."""
    args, others = arguments(entry), [0, 1, 2, 3, 5]
    args["items"][4] = -1
    if entry.kind == "user":
        value = values_of(entry, args)[4]
        assert value == 0, f"got {float(value):.6g}, expected 0 for the user without items"
    close(entry(**args), entry(**some(args, others)))


@law()
def nobody_and_nothing_give_zero(entry: Entry[Any]) -> None:
    """Without users, without places, and without a single item, the value is 0."""
    args = arguments(entry)
    nothing = {**args, "items": torch.full_like(args["items"], -1)}
    for given in (some(args, []), {**args, "items": args["items"][:, :0]}, nothing):
        value = entry(**given)
        assert value.shape == () and value == 0, f"got {shown(value)}, expected 0"


@law()
def inputs_are_unchanged(entry: Entry[Any]) -> None:
    """No call writes to its arguments."""
    args = arguments(entry)
    tensors = {name: x.values if isinstance(x, Ragged) else x for name, x in args.items() if not isinstance(x, int)}
    before = {name: x.clone() for name, x in tensors.items()}
    entry(**args)
    for name, x in before.items():
        assert torch.equal(tensors[name], x), f"{name} was written to"


@law()
def codes_of_any_integer_type(entry: Entry[Any]) -> None:
    """Codes of 32 bits are codes."""
    args = arguments(entry)
    same(values_of(entry, {**args, "items": args["items"].int()}), values_of(entry, args))


@law(serendipity="it is told of no catalogue")
def codes_beyond_the_catalogue_are_refused(entry: Entry[Any]) -> None:
    """A code that no item has, and codes that are no integers, raise InputError."""
    args = arguments(entry)
    beyond = args["items"].clone()
    beyond[0, 0] = ITEMS
    for wrong in (beyond, args["items"].float()):
        try:
            value = entry(**{**args, "items": wrong})
        except InputError:
            continue
        what = "fractions" if wrong.is_floating_point() else f"item {ITEMS} of {ITEMS}"
        raise AssertionError(f"got {shown(value)} for {what}, expected InputError")
