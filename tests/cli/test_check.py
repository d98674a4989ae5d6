"""``rankwell check`` names what is wrong with a loss or metric."""

import os
import re
import subprocess
import sys

import pytest
import torch

from rankwell.laws import Finding
from rankwell.losses import LOSSES
from rankwell.losses.laws import LAWS
from rankwell.metrics import METRICS

CARELESS = """
import torch
from rankwell.losses import contrast_loss
from rankwell.lists import open_rows


@contrast_loss()
def careless_loss(pos, neg, *, pos_where=None, where=None, weights=None, reduction="mean"):
    \"\"\"BPR as it is often written.\"\"\"
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    gaps = rows.pos[..., :, None] - rows.neg[..., None, :]
    terms = -torch.log(1e-10 + torch.sigmoid(gaps)).sum(-1) / rows.count_neg().clamp(min=1)[..., None]
    return rows.reduce(rows.mean_pos(terms), reduction)
"""


@pytest.fixture
def careless(tmp_path):
    file = tmp_path / "careless.py"
    file.write_text(CARELESS)
    return file


def test_a_logarithm_with_a_constant_inside_is_named(careless, rankwell):
    shown = rankwell("check", f"{careless}:careless_loss")
    assert shown.code == 1
    broken = [line.split()[1] for line in shown.out.splitlines() if line.startswith("broken")]
    # sigmoid(-25) is 1.4e-11 beside 1e-10: 12 % of the gradient are left.
    assert "gradient_does_not_die" in broken
    report = shown.out.partition("gradient_does_not_die")[2]
    assert "at a gap of 25, expected" in report
    assert "pos = [-25 " in report and "neg = [" in report  # of the call that shows it, not of a later one
    assert "Does not hold for every loss" not in report.partition("broken")[0]
    # Half precision, masks and batches are as they should be.
    right = {"masked_is_removed", "weights_double_the_value_or_cancel", "half_precision_is_summed_in_float32"}
    assert not right & set(broken)
    assert "negatives_are_summed_or_averaged" not in broken


def test_one_of_ours_keeps_all(rankwell):
    shown = rankwell("check", "bpr")
    assert shown.code == 0
    assert "broken" not in shown.out and "laws are kept" in shown.out


OWN_CONTRAST = """
from rankwell.losses import {of}_loss, contrast_loss


@contrast_loss()
def own_{of}_loss(pos, neg, *, pos_where=None, where=None, weights=None, reduction="mean"):
    return {of}_loss(pos, neg, pos_where=pos_where, where=where, weights=weights, reduction=reduction)
"""

OWN_LIST = """
from rankwell.losses import {of}_loss, list_loss


@list_loss()
def own_{of}_loss(scores, labels, *, where=None, weights=None, offsets=None, reduction="mean"):
    return {of}_loss(scores, labels, where=where, weights=weights, offsets=offsets, reduction=reduction)
"""


@pytest.fixture
def own_losses(monkeypatch):
    """Losses that are entered here go again."""
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))


@pytest.mark.usefixtures("own_losses")
@pytest.mark.parametrize(
    ("of", "text"), [("bpr", OWN_CONTRAST), ("hard_contrastive", OWN_CONTRAST), ("approx_ndcg", OWN_LIST)]
)
def test_a_right_loss_under_another_name_is_not_broken(of, text, tmp_path, rankwell):
    file = tmp_path / f"{of}.py"
    file.write_text(text.format(of=of))
    shown = rankwell("check", f"{file}:own_{of}_loss")
    assert shown.code == 0 and not re.search("^broken", shown.out, re.MULTILINE), shown.out
    if of == "hard_contrastive":
        said = shown.out.partition("differs negatives_are_summed_or_averaged")[2]
        assert "Does not hold for every loss: " in said and "the number of negatives is in the formula" in said
        assert re.search(r"(\d+) of \d+ laws are kept; 1 of the others need not hold for every loss\.", said)


def test_heads_have_laws(rankwell):
    shown = rankwell("check", "linear_softmax")
    assert shown.code == 0 and "known_is_removed" in shown.out
    assert re.search(r"(\d+) of \1 laws are kept", shown.out)


@pytest.mark.usefixtures("own_losses")
def test_what_is_always_raised_is_said_once(tmp_path, rankwell):
    file = tmp_path / "raising.py"
    file.write_text(
        OWN_LIST.format(of="hinge").replace("    return ", "    raise KeyError('nothing here')\n    return ")
    )
    shown = rankwell("check", f"{file}:own_hinge_loss")
    assert shown.code == 1 and shown.out.count("KeyError: 'nothing here'") == 1
    laws = len(re.findall("^broken", shown.out, re.MULTILINE))
    raised = int(re.search(r"raised in (\d+) laws:\n +KeyError: 'nothing here'\n", shown.out)[1])
    assert laws - raised <= 2  # torch says in its own words what it cannot trace
    assert "  labels = [" in shown.out.partition("KeyError")[2]


def test_an_examination_that_ends_early_leaves_the_number_of_threads(monkeypatch):
    module = sys.modules["rankwell.cli.check"]

    def interrupted(law, entry) -> Finding | None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "examine", interrupted)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyboardInterrupt):
            module.check("bpr")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_laws_that_need_not_hold_say_why():
    assert all(law.strict or law.reasons for law in LAWS.values())


UNDECORATED = """
import torch
from rankwell.losses import {of}_loss


def {of}_of_mine_loss({takes}, reduction="mean"):
    return {of}_loss({gives}, reduction=reduction)
"""

CALLS = {
    "softmax": ("list", "scores, labels, *", ("where", "weights", "offsets")),
    "bpr": ("contrast", "pos, neg, *", ("pos_where", "where", "weights")),
    "info_nce": ("embedding", "queries, items, *", ("positives", "where", "weights")),
    "ordinal": ("graded", "scores, labels, *", ("where", "weights", "offsets")),
}


@pytest.mark.usefixtures("own_losses")
@pytest.mark.parametrize("of", CALLS)
def test_a_function_without_a_decorator_is_known_by_its_arguments(of, tmp_path, rankwell):
    kind, positional, named = CALLS[of]
    takes = ", ".join([positional, *(f"{name}=None" for name in named)])
    gives = ", ".join([positional[:-3], *(f"{name}={name}" for name in named)])
    file = tmp_path / "mine.py"
    file.write_text(UNDECORATED.format(of=of, takes=takes, gives=gives))
    said = [] if kind != "graded" else ["--kind", "graded"]  # its arguments are a list loss's
    shown = rankwell("check", f"{file}:{of}_of_mine_loss", *said)
    assert (shown.code, broken_laws(shown)) == (0, {}), shown.out
    assert shown.out.startswith(f"{of}_of_mine_loss  ({kind})\n")
    note = (
        f"note: {of}_of_mine_loss is not registered: by its arguments it is of kind {kind}. If it is not, say --kind."
    )
    assert (note in shown.err) == (not said)


@pytest.mark.usefixtures("own_losses")
def test_a_function_of_the_name_of_one_of_ours_is_another(tmp_path, rankwell):
    file = tmp_path / "mine.py"
    text = UNDECORATED.format(of="bpr", takes="pos, neg, *, pos_where=None, where=None, weights=None", gives="pos, neg")
    file.write_text(text.replace("bpr_of_mine_loss", "bpr_loss").replace("import bpr_loss", "import bpr_loss as theirs")
                    .replace("return bpr_loss", "return theirs"))  # fmt: skip
    shown = rankwell("check", f"{file}:bpr_loss")
    assert shown.code == 1 and "masked_is_removed" in broken_laws(shown)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (
            "def mine(scores, labels): return scores.sum()",
            [],
            "loss 'mine' must take scores, labels, where, weights, offsets, reduction: it lacks where, weights, offsets,"
            " reduction.",
        ),
        (
            "def mine(a, b): return a",
            [],
            "mine is not registered, and its arguments do not say what it is. Say --kind list, contrast, embedding, graded,"
            " head, stateful, metric, uncut, whole, user, catalogue; or decorate it, as by @list_loss() or @metric().",
        ),
        ("mine = 3", [], "mine is not registered, and its arguments do not say what it is."),
        ("def mine(a, b): return a", ["--kind", "lists"], "there is no kind 'lists'. Say --kind list, contrast"),
        ("def mine(a, b): return a", ["--kind", "list"], "loss 'mine' must take scores, labels, where"),
        (
            "from rankwell.losses import bpr_loss as mine",
            ["--kind", "list"],
            "registered as of kind 'contrast', not 'list'",
        ),
        ("import torch\nclass mine(torch.nn.Identity): ...", [], "mine lacks call, update."),
        (
            "import torch\nclass mine(torch.nn.Module):\n  def __init__(self): raise ValueError('no')",
            [],
            "mine cannot be built: ValueError: no.",
        ),
    ],
)
@pytest.mark.usefixtures("own_losses")
def test_what_cannot_be_examined(text, options, sentence, tmp_path, rankwell):
    file = tmp_path / "plain.py"
    file.write_text(f"{text}\n")
    shown = rankwell("check", f"{file}:mine", *options)
    assert shown.code == 2 and shown.out == "" and sentence in shown.err


@pytest.mark.parametrize("name", ["song", "learned_temperature", "coverage", "calibration"])
def test_whatever_is_registered_has_laws(name, rankwell):
    shown = rankwell("check", name)
    assert shown.code == 0 and not broken_laws(shown), shown.out
    assert re.search(r"(\d+) of \1 laws are kept", shown.out)
    assert ("training_resumes_from_the_state" in shown.out) == (name in LOSSES)


STATEFUL = """
import torch
from rankwell.losses import bpr_loss
from rankwell.registry import Input


class Averaged(torch.nn.Module):
    call = "contrast"
    inputs = {"ids": Input("list", "id", required=True)}

    def __init__(self, num_ids):
        super().__init__()
        self.mean = torch.zeros(num_ids)

    def forward(self, pos, neg, *, ids, pos_where=None, where=None, weights=None, reduction="mean"):
        weights = (1 if weights is None else weights) * (1 + self.mean[ids].sigmoid().view(-1, *[1] * (pos.ndim - 1)))
        return bpr_loss(pos, neg, pos_where=pos_where, where=where, weights=weights, reduction=reduction)

    @torch.no_grad()
    def update(self, ids, neg):
        self.mean[ids] = neg.mean(-1).float()
"""


@pytest.mark.usefixtures("own_losses")
def test_state_that_a_state_dict_lacks_is_named(tmp_path, rankwell):
    """As in LibAUC's NDCG loss."""
    file = tmp_path / "averaged.py"
    file.write_text(STATEFUL)
    shown = rankwell("check", f"{file}:Averaged")
    broken = broken_laws(shown)
    assert shown.code == 1 and "training_resumes_from_the_state" in broken
    report = broken["training_resumes_from_the_state"]
    assert (
        re.search(r"got \S+, expected \S+ at \[\d\]", report) and "num_ids = 1000" in report and "  ids = [" in report
    )
    assert "masked_is_not_remembered" in broken and "state_moves_with_the_loss" in broken
    assert not {"masked_is_removed", "batch_is_independent", "calls_change_nothing"} & set(broken)


@pytest.mark.usefixtures("own_losses")
def test_a_wrong_shape_is_said_in_few_words(tmp_path, rankwell):
    """A value an item, where there is to be one a list."""
    file = tmp_path / "items.py"
    file.write_text(
        "def items(scores, labels, *, where=None, weights=None, offsets=None, reduction='mean'):\n"
        "    return (scores - labels) ** 2\n"
    )
    shown = rankwell("check", f"{file}:items")
    assert shown.code == 1
    broken = broken_laws(shown)
    assert "4 rows gave values of shape (4, 7)" in broken["one_value_a_list"]
    assert "with nan behind the mask got nan, expected " in broken["masked_values_change_nothing"]
    assert "tensor(" not in shown.out
    for report in broken.values():
        said = report.partition("in the call with")[0]
        assert len(re.findall(r"[-+]?\d+\.\d+", said)) <= 4 * 6, said


def test_nothing_of_the_profiler_is_on_the_screen(tmp_path):
    """It writes to the stream itself, so that only another process shows it."""
    code = "import sys; sys.argv = ['rankwell', 'check', 'hinge']; from rankwell.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if name != "KINETO_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0 and "ragged_memory_is_linear" in done.stdout
    assert done.stderr == ""


METRIC = """
from rankwell import metrics
from rankwell.metrics import metric, mrr, precision
from rankwell.metrics.ranked import Ratio
from rankwell.metrics.registry import evaluate


def retrieved(scores, where):
    return scores > 0 if where is None else where & (scores > 0)


def share(view, k):
    of_ties = view.inside_weight(1.0, k) / view.size[..., :k]
    return Ratio(of_ties.sum(-1), view.positives(1.0))


@metric()
def {name}(
    scores, labels, *, where=None, weights=None, offsets=None, reduction="mean",
    k=None, ties="expected", ideal=None, empty="skip",
):
    return {value}
"""

CALL = "offsets=offsets, weights=weights, reduction=reduction, k=k, ideal=ideal, empty=empty"


@pytest.fixture
def examined(tmp_path, rankwell, monkeypatch):
    """A report on a metric whose value is written so."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))

    def examined(name, value):
        file = tmp_path / f"{name}.py"
        file.write_text(METRIC.format(name=name, value=value))
        return rankwell("check", f"{file}:{name}")

    return examined


def broken_laws(shown):
    """What is said of each broken law, by its name."""
    parts = re.split(r"^(kept|broken|differs) +(\w+)\n", shown.out, flags=re.MULTILINE)[1:]
    return {parts[i + 1]: parts[i + 2] for i in range(0, len(parts), 3) if parts[i] == "broken"}


def test_a_metric_that_drops_scores_below_zero_is_named(examined):
    shown = examined("positive_mrr", f"mrr(scores, labels, where=retrieved(scores, where), ties=ties, {CALL})")
    assert shown.code == 1
    broken = broken_laws(shown)
    # A list whose scores are all below zero, if in perfect order: nothing is retrieved.
    report = broken["perfect_ranking_is_best"]
    assert "got 0, expected 1 at [1]" in report
    assert "scores = [-5 1 -3 -5 -1] [-3 -3 -3 -5 -5]" in report and "k = 3" in report
    assert re.search(r"got \S+, expected \S+ at \[\d\]", broken["only_the_order_of_scores_counts"])
    # Masks, layouts and precision are as they should be.
    assert not {"masked_is_removed", "ragged_is_dense_is_a_loop", "float32_is_near_float64"} & set(broken)


def test_a_metric_that_meets_ties_in_input_order_is_named(examined):
    shown = examined("careless_precision", f"precision(scores, labels, where=where, ties='order', {CALL})")
    assert shown.code == 1
    broken = broken_laws(shown)
    # That its denominator is k, as that of ours, is no defect.
    assert set(broken) == {"item_order_is_irrelevant", "ties_are_the_mean_over_all_orders"}
    assert "differs cut_beyond_the_list_is_none" in shown.out
    # Scores 1 1 0 -1 -1 -1 with one relevant item among the first two, of weight w: the mean over orders is w / 2.
    report = broken["ties_are_the_mean_over_all_orders"]
    got, expected = map(float, re.search(r"got (\S+), expected (\S+);", report).groups())
    weights = re.search(r"weights = \[(\S+)", report)
    assert "scores = [1 -1 -1 1 0 -1]" in report and "k = 1" in report
    assert (got, expected) == pytest.approx((float(weights[1]), float(weights[1]) / 2), rel=1e-3)


def test_a_right_metric_of_ones_own_keeps_all(examined):
    shown = examined(
        "own_recall", "evaluate(share, scores, labels, where, weights, offsets, reduction, k, ties, ideal, empty)"
    )
    assert (shown.code, broken_laws(shown)) == (0, {})
    assert re.search(r"(\d+) of \1 laws are kept", shown.out)


@pytest.mark.parametrize("of", ["dcg", "err", "precision", "f1"])
def test_a_right_metric_under_another_name_is_not_broken(of, examined):
    value = f"metrics.{of}(scores, labels, where=where, ties=ties, {CALL})"
    shown = examined(f"own_{of}", value)
    assert (shown.code, broken_laws(shown)) == (0, {}), shown.out
    assert "Does not hold for every metric: " in shown.out


def test_a_metric_of_ours_keeps_all(rankwell):
    shown = rankwell("check", "auc")
    assert (shown.code, broken_laws(shown)) == (0, {})


def test_a_file_is_run_once(tmp_path, rankwell):
    file, log = tmp_path / "plain.py", tmp_path / "log"
    file.write_text(f"with open({str(log)!r}, 'a') as log:\n    log.write('.')\ndef plain(scores, labels): ...\n")
    assert rankwell("check", f"{file}:plain").code == 2  # in the registry of losses and in that of metrics
    assert log.read_text() == "."


def test_names_of_both_are_offered(rankwell):
    assert rankwell("check", "ndgc").sentence == "unknown loss or metric 'ndgc'. Did you mean 'ndcg'?"
    assert rankwell("check", "sofmax").sentence == "unknown loss or metric 'sofmax'. Did you mean 'softmax'?"


def test_names_from_elsewhere_are_told(rankwell):
    assert rankwell("check", "ranknet").sentence == "unknown loss or metric 'ranknet': it is called 'logistic' here."
