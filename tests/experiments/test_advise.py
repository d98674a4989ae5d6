"""Advice: rules that hold together, evidence that exists, and choices that fit data and limits."""

import itertools
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from rankwell.config import load_toml, resolve
from rankwell.errors import ConfigError, DataError, RunError
from rankwell.experiments import limits as limits_module
from rankwell.experiments.advice import NAMED, Evidence, Rules, load_rules
from rankwell.experiments.advise import Named, _named, advise, as_options, find_task, write_choices
from rankwell.experiments.limits import Fitted, Limits, machine_memory, parse_memory, within
from rankwell.tasks import TASKS, Profile, task_of
from rankwell.tasks.profile import profile_of

ROOT = Path(__file__).parents[2]
RULES = load_rules()
EVIDENCE = [
    pytest.param(each, id=f"{name}-{place}")
    for name, choice in [*RULES.choice.items(), *((f"note{number}", note) for number, note in enumerate(RULES.note))]
    for place, each in enumerate(choice.evidence)
]
FACTS = Profile("implicit", 1000, 5000, 100_000, 100.0, 80.0, 900, 0.02, 0.5, 0.1, 0.0)


# --------------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize("task", TASKS)
def test_every_choice_resolves_for_its_tasks(task):
    mine = [rule for rule in RULES.rule if task in rule.tasks]
    assert mine
    for name in {name for rule in mine for name in rule.choices}:
        choice = RULES.choice[name]
        config = resolve({"task": task, **choice.sections()}, name)
        assert config.loss["name"] == choice.loss
        plain = config.as_dict()
        for section, own in choice.sections().items():
            assert {key: plain[section][key] for key in own} == own


TRAINED = [
    (task, name)
    for task in TASKS
    for name in dict.fromkeys(name for rule in RULES.rule if task in rule.tasks for name in rule.choices)
    if "data" not in RULES.choice[name].settings and task != "rerank"
]


@pytest.fixture(scope="module")
def parts():
    """Generated data of each task, read once."""
    found = {}

    def of(config):
        if config.task not in found:
            found[config.task] = task_of(config.task).read(config)
        return found[config.task]

    return of


@pytest.mark.parametrize(("task", "name"), TRAINED)
def test_every_choice_trains(task, name, parts):
    sections = RULES.choice[name].sections()
    if task == "retrieval":
        pytest.importorskip("bm25s", reason="texts need the extra text")
        sections["model"] = {"name": "bag_of_words"}  # a transformer takes too long here
    config = resolve({"task": task, **sections, "training": {**sections.get("training", {}), "batch_size": 8}})
    assert limits_module.step_seconds(config, parts(config)) > 0


def figures(text):
    """Numbers with a fraction, without their leading zero: 0.3039 is .3039."""
    return {number.lstrip("0") for number in re.findall(r"(?<![\d.])\d*\.\d+", text)}


@pytest.mark.parametrize("each", EVIDENCE)
def test_evidence_exists_and_is_quoted_right(each):
    if each.paper is not None:
        assert f"{{{each.paper}," in (ROOT / "references.bib").read_text(encoding="utf-8")
        return
    if each.log is not None:
        sections = re.split(r"^## .*?: ", (ROOT / "bench" / "LOG.md").read_text(encoding="utf-8"), flags=re.M)
        told = next(text for text in sections if text.startswith(f"{each.log}\n"))
        assert figures(each.says) <= figures(told)
        return
    text = (ROOT / each.file).read_text(encoding="utf-8")
    stored = [float(number) for number in re.findall(r"\d+\.\d+", text)]
    for number in re.findall(r"(?<![\d.])0\.\d{4}", each.says):  # what is quoted from the table in four digits
        assert any(abs(float(number) - value) <= 0.5e-4 for value in stored), number


def test_each_choice_is_used_and_says_what_was_seen():
    assert {name for rule in RULES.rule for name in rule.choices} == set(RULES.choice)
    measured = [each for choice in RULES.choice.values() for each in choice.evidence if each.file]
    assert all(each.seen for each in measured)


GRID = {
    "labels": ["implicit", "binary", "graded", "classes", "pairs", "teacher"],
    "queries": [2, 10_000],
    "items": [2, 10_000_000],
    "pairs": [1, 19_999, 20_000, 10**7],
    "density": [0.0, 0.005, 1.0],
    "list_median": [1.0, 2.5],
    "list_max": [1, 10_000],
    "gini": [None, 0.9],
}


@pytest.mark.parametrize("task", TASKS)
def test_exactly_three_losses_come_out_for_any_data(task):
    for values in itertools.product(*GRID.values()):
        facts = replace(FACTS, **dict(zip(GRID, values, strict=True)))
        losses = RULES.losses(RULES.for_data(task, facts))[:NAMED]
        assert len(losses) == len(set(losses)) == NAMED


@pytest.mark.parametrize(
    ("task", "facts", "first", "because"),
    [
        ("interactions", {"pairs": 5_000}, "softmax_decayed", "regularisation decides"),
        ("interactions", {"density": 0.017}, "softmax_lightgcn", "graph convolution"),
        ("interactions", {"density": 0.017, "pairs": 20_000_000}, "bsl", "sparse data"),
        ("interactions", {"density": 0.0007, "pairs": 198_502}, "bsl", "sparse data"),
        ("sequences", {"items": 12_101}, "linear_softmax", "baseline to beat"),
        ("sequences", {"items": 1_000_000}, "scaled_ce", "stand for the catalogue"),
        ("ltr", {"labels": "graded", "queries": 471}, "list_softmax", "best network"),
        ("ltr", {"labels": "graded", "queries": 5_000}, "lambda_loss", "bound of NDCG"),
        ("ltr", {"labels": "binary"}, "list_softmax", "best network"),
        ("labels", {"labels": "binary"}, "label_sigmoid", "probability"),
        ("classes", {"labels": "classes", "list_median": 2.0}, "class_info_nce", "One positive each"),
        ("classes", {"labels": "classes", "list_median": 60.0}, "multi_similarity", "how hard"),
        ("retrieval", {"labels": "pairs"}, "text_info_nce", "of the batch"),
        ("retrieval", {"labels": "teacher"}, "text_kl", "distribution"),
        ("rerank", {"labels": "pairs"}, "pairs_softmax", "first stage"),
        ("rerank", {"labels": "teacher"}, "margin_mse", "gaps"),
    ],
)
def test_facts_lead_to_a_first_choice(task, facts, first, because):
    rule = RULES.for_data(task, replace(FACTS, **facts))
    assert rule.choices[0] == first and because in RULES.choice[first].reason


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"labels": "graded"}, "weights are not looked at"),
        ({"repeat_rate": 0.1}, "--task sequences"),
        ({"top_1_percent": 0.5}, "head, middle and tail"),
        ({"items": 14_999}, "--model ease"),
        ({"items": 15_000}, "--model graph_filter"),
    ],
)
def test_notes_stand_beside(facts, says):
    def told(profile):
        return [note for note in RULES.notes("interactions", profile) if says in note.says]

    assert len(told(replace(FACTS, **facts))) == 1
    assert not told(replace(FACTS, items=20_000 if "ease" in says else 10, top_1_percent=None, repeat_rate=None))


CHOICE = {"loss": "bpr", "reason": "r", "evidence": [{"paper": "rendle2009", "says": "s"}], "changes": ["c"]}
RULE = {"data": "d", "label": "l", "why": "w", "choices": ["a", "b", "c"]}
NAMES = {"a": CHOICE, "b": {**CHOICE, "loss": "ccl"}, "c": {**CHOICE, "loss": "mml"}}


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"choices": ["a", "b", "x"]}, "'x', which is no choice"),
        ({"choices": ["a", "b", "a"]}, "must have different losses"),
        ({"choices": ["a", "b"]}, "at least 3 items"),
        ({"when": {"itemz": {"below": 3}}}, "there is no 'itemz'"),
        ({"tasks": ["lrt"]}, "there is no 'lrt'"),
        ({"tasks": ["ltr"], "when": {"items": {"below": 3}}}, "must have a rule without a condition"),
    ],
)
def test_rules_that_do_not_hold_together_are_refused(rule, says):
    everyone = {**RULE, "tasks": [task for task in TASKS if task != "ltr"]}
    with pytest.raises(ValidationError, match=says):
        Rules.model_validate({"choice": NAMES, "rule": [{**RULE, "tasks": ["ltr"], **rule}, everyone]})


def test_evidence_stands_in_one_place():
    assert Evidence(log="which negatives", says="s").place == "bench/LOG.md, which negatives"
    assert Evidence(file="f", says="s", seen=("mq2008",)).told() == (
        "f: s (the rule was written with this result of mq2008 in sight)"
    )
    with pytest.raises(ValidationError, match="one of file, log and paper"):
        Evidence(file="f", paper="p", says="s")


# --------------------------------------------------------------------------------------------------------------- facts


def interactions(folder, rows):
    file = folder / "events.csv"
    pl.DataFrame(rows, schema=["user", "item", "stars"], orient="row").write_csv(file)
    return file


def test_profile_of_interactions(tmp_path):
    # Users have 4, 2 and 2 items; tea is in three lists, jam and oil in two, soap in one; one row of nine is a repetition.
    rows = [("a", item, 1) for item in ("tea", "jam", "oil", "soap")] + [("b", "tea", 1), ("b", "jam", 5)]
    file = interactions(tmp_path, [*rows, ("c", "tea", 4), ("c", "oil", 3), ("a", "tea", 1)])
    config = resolve({"data": {"path": str(file), "weight": "stars", "valid_fraction": 0, "test_fraction": 0.3}})
    task = task_of("interactions")
    found = task.profile(task.read(config))
    assert (found.labels, found.queries, found.items, found.pairs) == ("graded", 3, 4, 8)
    assert (found.list_median, found.list_max, found.density) == (2.0, 4, 8 / 12)
    assert found.positives == pytest.approx(8 / 3) and found.repeat_rate == pytest.approx(1 / 9)
    # Gini of 1, 2, 2, 3: Σ (2 i − 5) x_i / (4 · 8) = (−3 − 2 + 2 + 9) / 32
    assert found.gini == pytest.approx(6 / 32) and found.top_1_percent == pytest.approx(3 / 8)


def test_profile_of_sequences_counts_what_comes_again(tmp_path):
    (tmp_path / "s.txt").write_text("a 1 2 1 3 1\nb 2 3 1 2\n")
    task = task_of("sequences")
    found = task.profile(task.read(resolve({"task": "sequences", "data": {"path": str(tmp_path / "s.txt")}})))
    assert (found.queries, found.items, found.pairs, found.list_max) == (2, 3, 9, 5)
    assert found.repeat_rate == pytest.approx(3 / 9)


@pytest.mark.parametrize(
    ("task", "labels", "gini"),
    [("ltr", "graded", False), ("labels", "binary", True), ("classes", "classes", True)],
)
def test_profile_of_other_tasks(task, labels, gini):
    chosen = task_of(task)
    found = chosen.profile(chosen.read(resolve({"task": task})))
    assert found.labels == labels and (found.gini is not None) == gini
    assert 0 < found.density <= 1 and found.queries > 100 and found.list_median <= found.list_max
    assert ("popularity" in dict(found.rows(chosen.unit, chosen.units))) == gini


def test_profile_of_texts():
    pytest.importorskip("bm25s", reason="texts need the extra text")
    chosen = task_of("retrieval")
    data = chosen.read(resolve({"task": "retrieval", "model": {"name": "bag_of_words"}}))
    found = chosen.profile(data)
    assert (found.items, found.pairs) == (len(data.train.documents), len(data.train))
    assert found.labels in ("pairs", "graded")


def test_lists_of_their_own_have_the_density_of_lists():
    made = profile_of("binary", sizes=np.array([4, 4]), positives=np.array([1, 1]), items=8)
    assert made.density == 0.25 and made.gini is None


@pytest.mark.parametrize(
    ("name", "text", "task"),
    [
        ("train.txt", "2 qid:10 1:0.5\n", "ltr"),
        ("train.txt.query", "3\n", "ltr"),
        ("corpus.jsonl", "{}\n", "retrieval"),
        ("events.csv", "user,item\n", None),
        ("train.txt", "1 2 3\n", None),
    ],
)
def test_files_tell_the_task(tmp_path, name, text, task):
    (tmp_path / name).write_text(text)
    assert find_task(str(tmp_path)) == task


def test_a_file_of_arrays_is_of_examples_and_nothing_of_nothing(tmp_path):
    assert find_task("digits.npz") == "classes"
    assert find_task(str(tmp_path / "absent")) is None and find_task("synthetic") is None


# -------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("text", ["much", "8", "-1GB", "0GB", "8PB", "8GB more", ""])
def test_memory_that_cannot_be_read(text):
    with pytest.raises(ConfigError, match=r"number above 0 with MB or GB, such as 8GB: got"):
        parse_memory(text)


@pytest.mark.parametrize(("text", "size"), [("500MB", 5e8), ("2g", 2e9), (" 1.5 TB ", 1.5e12), ("1MiB", 2.0**20)])
def test_memory(text, size):
    assert parse_memory(text) == size


def test_minutes_must_be_above_0():
    with pytest.raises(ConfigError, match="--minutes must be a number above 0: got 0"):
        Limits(minutes=0)


def test_memory_of_the_machine_or_of_its_container(tmp_path, monkeypatch):
    files = (tmp_path / "memory.max", tmp_path / "absent")
    monkeypatch.setattr(limits_module, "CGROUPS", files)
    physical = machine_memory()
    assert physical is None or physical > 1e8
    for text, limit in (("max\n", physical), ("50000000\n", 5e7), (f"{2**63}\n", physical or 2.0**63)):
        files[0].write_text(text)
        assert machine_memory() == limit


@pytest.fixture
def read(tiny):
    config = resolve({"data": {"path": str(tiny)}, "sampler": {"n": 64}, "training": {"batch_size": 64, "epochs": 8}})
    return config, task_of(config.task).read(config)


def test_what_does_not_fit_is_made_smaller(read):
    config, data = read
    free = within(config, data, Limits())
    assert free.changes == () and free.config == config and not free.problem
    tight = within(config, data, Limits(memory=free.plan.peak - 50_000))
    assert tight.plan.peak <= free.plan.peak - 50_000 and not tight.problem
    assert [str(change) for change in tight.changes] == ["evaluation.block 256 → 128, to save memory"]
    assert tight.config.evaluation.block == 128


def test_users_at_a_time_give_way_to_their_end_before_negatives(read):
    # Half of the negatives saves more than the users scored at a time ever could, and is not needed.
    config, data = read
    config = config.model_copy(update={"sampler": {**config.sampler, "n": 1024}})
    free = within(config, data, Limits()).plan
    scored = free.memory["evaluation"]
    few = within(config, data, Limits(memory=free.peak - 0.7 * scored))
    assert [str(change) for change in few.changes] == ["evaluation.block 256 → 64, to save memory"]
    more = within(config, data, Limits(memory=free.peak - 1.5 * scored))
    assert [str(change) for change in more.changes] == [
        "evaluation.block 256 → 16, to save memory",
        "sampler.n 1,024 → 512, to save memory",
    ]


def test_texts_at_a_time_give_way_before_the_batch():
    pytest.importorskip("bm25s", reason="texts need the extra text")
    config = resolve({"task": "retrieval", "model": {"name": "bag_of_words"}, "training": {"batch_size": 32}})
    data = task_of(config.task).read(config)
    found = within(config, data, Limits(memory=within(config, data, Limits()).plan.peak - 1_000))
    assert [str(change) for change in found.changes] == ["model.micro_batch 0 → 16, to save memory"]
    assert found.config.training.batch_size == 32 and not found.problem


def test_what_cannot_be_made_small_enough_says_so(read):
    config, data = read
    found = within(config, data, Limits(memory=1e6))
    assert re.fullmatch(r"it needs about 4\d\d MB, more than 1", found.problem)


def test_minutes_take_epochs(read, monkeypatch):
    config, data = read
    steps = within(config, data, Limits()).plan.steps
    monkeypatch.setattr(limits_module, "step_seconds", lambda *_: 60 / steps)  # a minute an epoch, and one to refit
    found = within(config, data, Limits(minutes=11))
    assert found.config.training.epochs == 5 and found.minutes == pytest.approx(10) and not found.problem
    assert [str(change) for change in found.changes] == ["training.epochs 8 → 5, to end within 11 minutes"]
    assert within(config, data, Limits(minutes=100)).changes == ()
    few = within(config, data, Limits(minutes=7))
    assert few.config.training.epochs == 3 and few.problem == "time for 3 of 8 epochs, at about 2 minutes each"
    assert within(config, data, Limits(minutes=1)).config.training.epochs == 1


@pytest.mark.parametrize("rows", [64, 2])
def test_a_step_is_timed(read, rows):
    config, data = read
    config = config.model_copy(update={"training": replace(config.training, batch_size=rows)})
    assert 0 < limits_module.step_seconds(config, data) < 60


@pytest.mark.parametrize(("step", "looks"), [(60.0, 2), (2.0, 4), (0.01, 21)])
def test_timing_ends_after_a_few_seconds(read, monkeypatch, step, looks):
    config, data = read
    config = config.model_copy(update={"training": replace(config.training, batch_size=2)})
    clock = itertools.count(0, step)
    monkeypatch.setattr(limits_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert limits_module.step_seconds(config, data) == pytest.approx(step)
    assert next(clock) == pytest.approx(looks * step)  # one look at the start, and one after each step


def test_timing_has_the_threads_given(read, monkeypatch):
    config, data = read
    threads, seen = torch.get_num_threads(), []
    carried_out = limits_module.fit

    def fit(*args, **given):
        seen.append(torch.get_num_threads())
        return carried_out(*args, **given)

    monkeypatch.setattr(limits_module, "fit", fit)
    for given in (0, threads + 1):
        limits_module.step_seconds(config.model_copy(update={"threads": given}), data)
    assert seen == [threads, threads + 1] and torch.get_num_threads() == threads


def test_what_fits_comes_first_and_the_rest_is_told():
    rule = RULES.for_data("interactions", FACTS)

    def fitted(too_large):
        def make(name):
            problem = "too large" if name in too_large else ""
            return Named(RULES.choice[name], Fitted(None, None, (), problem))

        return make

    names = rule.choices
    named, passed = _named(rule, fitted({names[0]}))
    assert [each.choice.loss for each in named] == RULES.losses(rule)[1:4]
    assert [each.choice.loss for each in passed] == RULES.losses(rule)[:1]
    named, passed = _named(rule, fitted(set(names)))
    assert [each.choice.loss for each in named] == RULES.losses(rule)[:3] and len(passed) == len(names) - 3


# -------------------------------------------------------------------------------------------------------------- advice


def test_advice_writes_configurations_that_resolve(tiny, tmp_path):
    advice = advise({"data": {"path": str(tiny)}, "seed": 3}, Limits())
    files = write_choices(advice, tmp_path / "out")
    assert [file.name for file in files] == ["1-sampled_softmax.toml", "2-bsl.toml", "3-bpr.toml"]
    for file, named in zip(files, advice.choices, strict=True):
        assert resolve(load_toml(file)) == named.config and named.config.seed == 3
        lines = file.read_text(encoding="utf-8").splitlines()
        assert named.choice.reason in lines[0]
        assert {f"# what would change this: {each}" for each in named.choice.changes} <= set(lines)
    with pytest.raises(RunError, match="out exists"):
        write_choices(advice, tmp_path / "out")
    assert write_choices(advice, tmp_path / "first.toml") == [tmp_path / "first.toml"]
    assert load_toml(tmp_path / "first.toml") == load_toml(files[0])
    with pytest.raises(RunError, match=r"first.toml exists"):
        write_choices(advice, tmp_path / "first.toml")


def test_options_have_what_gave_way(tiny):
    free = advise({"data": {"path": str(tiny)}}, Limits()).choices[0].fitted.plan.peak
    first = advise({"data": {"path": str(tiny)}}, Limits(memory=free - 300_000)).choices[0]
    assert first.options().startswith("--loss sampled_softmax --model mf --model.similarity dot --sampler uniform")
    assert "--sampler.n 64 " in first.options() and first.config.sampler["n"] == 64
    assert as_options({"a": {"name": "b", "on": True, "list": [1, 2]}}) == "--a b --a.on true --a.list 1,2"


def test_what_advice_is_about_is_not_given(tiny):
    with pytest.raises(ConfigError, match="loss is what advice is about"):
        advise({"data": {"path": str(tiny)}, "loss": {"name": "bpr"}}, Limits())


def test_one_user_gets_no_advice(tmp_path):
    file = interactions(tmp_path, [("a", item, 1) for item in ("tea", "jam", "oil", "soap", "ink")])
    with pytest.raises(DataError, match="at least two users and a positive pair: there is 1 with 5"):
        advise({"data": {"path": str(file), "valid_fraction": 0}}, Limits())
