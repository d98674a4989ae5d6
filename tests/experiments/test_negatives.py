import json
from typing import Any

import pytest

from rankwell.config import resolve
from rankwell.errors import ConfigError
from rankwell.experiments import RunFolder, run
from rankwell.experiments.negatives import draw_negatives


def settings(path, **training):
    return resolve(
        {
            "data": {"path": str(path)},
            "model": {"dim": 4},
            "sampler": {"n": 8},
            "training": {"epochs": 2, "batch_size": 64, "watch_every": 2, **training},
        }
    )


def test_a_run_logs_what_it_saw(tiny, tmp_path, no_picture):
    run(settings(tiny), RunFolder(tmp_path / "run"))
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    seen = json.loads((tmp_path / "run" / "negatives.json").read_text())
    assert seen == RunFolder(tmp_path / "run").negatives()
    for phase in ("select", "refit"):
        assert seen[phase] == [{"epoch": line["epoch"], **line["negatives"]} for line in log if line["phase"] == phase]
        assert seen[phase][0]["steps"] >= 2 and 0 <= seen[phase][0]["violating"] <= 1
    # While the epoch is chosen, validation pairs may be drawn; the refit trains on them.
    assert all(each["held_out_positives"] > 0 for each in seen["select"])
    assert all(each["held_out_positives"] is None for each in seen["refit"])


def test_nobody_looks(tiny, tmp_path, no_picture):
    """The same model as where somebody does, and nothing said."""
    for name, every in (("off", 0), ("on", 1)):
        run(settings(tiny, watch_every=every), RunFolder(tmp_path / name))
    off, on = tmp_path / "off", tmp_path / "on"
    assert (off / "model.safetensors").read_bytes() == (on / "model.safetensors").read_bytes()
    assert {entry.name for entry in on.iterdir()} - {entry.name for entry in off.iterdir()} == {
        "negatives.json",
        "negatives.png",
    }
    assert all(json.loads(line)["negatives"] is None for line in (off / "log.jsonl").read_text().splitlines())


def test_an_odd_setting():
    with pytest.raises(ConfigError, match="watch_every must be at least 0: got -1"):
        settings("x", watch_every=-1)


def seen(epoch: int, *, ranks: int = 2, items: bool = True, **own: Any) -> dict[str, Any]:
    by_popularity = {"gradient": [0.1] * 10, "drawn": [0.1] * 10} if items else None
    rates = {"collision_rate": 0.0, "violating": 0.2, "suspected_false": 0.3, "held_out_positives": None}
    by_rank = {
        "ranks": ["1", "2-3", "4-10"][:ranks],
        "gradient": [1 / ranks] * ranks,
        "negatives": [1 / ranks] * ranks,
    }
    counts = {"epoch": epoch, "with_gradient": 1.0, "effective": 2.0, "negatives": 3.0}
    return {**counts, **rates, "by_rank": by_rank, "by_popularity": by_popularity, **own}


@pytest.mark.parametrize(
    "epochs",
    [
        [seen(1), seen(2, ranks=3), seen(3)],
        [seen(4)],
        [seen(1, items=False), seen(2, items=False)],
        [seen(1, violating=0.0, suspected_false=0.0, with_gradient=0.0, effective=0.0)],
    ],
    ids=["three", "one", "no items", "nothing"],
)
def test_the_picture_has_three_panels(tmp_path, epochs):
    draw_negatives(tmp_path / "negatives.svg", epochs)
    drawn = (tmp_path / "negatives.svg").read_text()
    for title in ("Negatives", "Gradient by rank", "Gradient by popularity"):
        assert f"<!-- {title} -->" in drawn
    for axis in ("epoch", "share of negatives", "rank among the row's negatives", "share of gradient"):
        assert f"<!-- {axis} -->" in drawn
    assert ("<!-- share of draws -->" in drawn) == (epochs[0]["by_popularity"] is not None)
    assert ("<!-- above the positive -->" in drawn) == (epochs[0]["violating"] > 0)
    assert "<!-- held-out positives -->" not in drawn and "<!-- collisions (of draws) -->" not in drawn
    assert ("<!-- epoch 1 -->" in drawn) == (epochs[0]["epoch"] == 1)
