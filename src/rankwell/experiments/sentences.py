"""A comparison in sentences: what it found, how it was done, and what it does not say."""

import math
from collections.abc import Mapping, Sequence

from rankwell.evaluation.significance import LEAST_UNITS
from rankwell.experiments.equal_tuning import tuning_said
from rankwell.experiments.facts import data_said
from rankwell.experiments.standings import Contender, Standings
from rankwell.metrics import Measure
from rankwell.metrics.registry import RESULTS
from rankwell.words import many

__all__ = ["failures", "finding", "notes_said", "protocol", "settings_of"]


def finding(found: Standings) -> str:
    """The comparison in a few sentences.

    Which contender is first, from how many it is told apart, and what that does not say; who failed, and which baseline is
    ahead.
    """
    said, failed = [_first(found)], [each.name for each in found.contenders if not each.seeds]
    if failed:
        said.append(f"No run of {_listed(failed)} came to its end.")
    mean = found.contenders[0].summaries[found.measure].mean
    ahead = [
        f"{name} ({of[found.measure]:.4f})"
        for name, of in found.baselines.items()
        if name != "ideal" and of.get(found.measure, 0.0) > mean  # generated data are not to be beaten
    ]
    if ahead:
        said.append(f"It is behind what needs no training: {_listed(ahead)}.")
    return " ".join(said)


def _first(found: Standings) -> str:
    alive = [each for each in found.contenders if each.seeds]
    best = alive[0]
    summary = best.summaries[found.measure]
    level = [pair.worse for pair in found.pairs if pair.better == best.name and pair.difference.identical]
    said = (
        f"{_listed([best.name, *level])} {'are' if level else 'is'} first by {found.measure}:"
        f" {summary.mean:.4f} (95 % interval over {summary.units:,} {found.units} {summary.low:.4f} to {summary.high:.4f})."
    )
    against = [pair for pair in found.pairs if pair.better == best.name]
    if against and (units := max(pair.difference.units for pair in against)) < LEAST_UNITS:
        return f"{said} {units} {found.units} are too few for any test: at least {LEAST_UNITS} are needed."
    if against:
        apart = [pair.worse for pair in against if pair.apart]
        said += f" It is told apart from {len(apart)} of {len(against)} others at the level .05, adjusted for all pairs (Holm)."
        if level := [pair.worse for pair in against if not pair.apart and not math.isnan(pair.adjusted)]:
            said += f" Not told apart from it: {', '.join(level)}."
        if untested := [pair.worse for pair in against if math.isnan(pair.adjusted)]:
            said += f" Not tested, for one of the two has a single seed: {', '.join(untested)}."
        if same := [pair.worse for pair in against if pair.difference.identical]:
            said += f" Identical to it, value by value: {', '.join(same)}."
        said += f" {_scope(found)}"
    return said


def _scope(found: Standings) -> str:
    """What the tests know of."""
    if found.several_seeds:
        said = f"The tests know the variance over {found.units} and over seeds."
        if any(len(each.seeds) == 2 for each in found.contenders):
            said += " Of two seeds they know it badly: three are better."
        return said
    return (
        f"With one seed the tests know only the variance over {found.units}: they say whether these trained models differ, not"
        " whether the losses would with other seeds. Give --seeds 3 or more."
    )


_NO_REFIT = (
    "Models were judged as they were chosen, trained without the validation part; 'rankwell train' then trains the chosen one"
    " again on all, unless told otherwise: its figures are others."
)


def protocol(found: Standings) -> list[str]:
    """How it was done, a sentence each."""
    alive = [each for each in found.contenders if each.seeds]
    settings = alive[0].settings
    data = data_said(settings["task"], settings["data"], found.about["data"])
    training, seeds = settings["training"], max(len(each.seeds) + len(each.failed) for each in found.contenders)
    said = [
        f"Task {settings['task']}; data {data}; split by seed {settings['split_seed']}, the same for all.",
        f"Each contender had {found.about['budget']} and {many(seeds, 'seed')} of start, order and draws.",
        _selection(found, training["patience"]),
        *([] if training.get("refit", True) else [_NO_REFIT]),
        "The test part was looked at once a run, and nothing was chosen by it.",
        "Measures break ties by their expectation over all orders of the tied items, unless a measure's name says otherwise.",
        _intervals(found),
        *_recommended(found),
        *tuning_said(found.about.get("tuning", {})),
    ]
    return [*said, _cost(found), *notes_said(found.about["notes"])]


def notes_said(notes: Sequence[str]) -> list[str]:
    """Notes on the data, and on what has changed."""
    return [f"Note: {note}." for note in notes]


def _intervals(found: Standings) -> str:
    """What intervals and tests are."""
    tested = sum(not math.isnan(pair.adjusted) for pair in found.pairs)
    said = f"Intervals of figures are bootstrap percentiles over {found.units}"
    if not tested:
        return f"{said}, those of differences too. Nothing was tested."
    return (
        f"{said}; those of differences are {'of the test' if found.several_seeds else 'the same'}. p is two-sided, adjusted for"
        f" {f'all {tested} pairs' if tested > 1 else 'one pair'} by Holm's method; effect is the mean difference over its"
        f" standard deviation over {found.units}. {_scope(found)}"
    )


def _recommended(found: Standings) -> list[str]:
    """What measures of recommended items do not say."""
    measures = [measure for measure in map(Measure.parse, found.measures) if measure.kind in RESULTS]
    single = [str(measure) for measure in measures if measure.one_figure]
    if not measures:
        return []
    said = (
        f"Of recommended items, ties by the lower item code: {_listed([str(each) for each in measures])}. Higher is not"
        " always better: nothing is ranked or tested by them."
    )
    if single:
        said += (
            f" No interval over {found.units}: {_listed(single)}, one figure a result of all {found.units} together."
        )
    return [said]


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _cost(found: Standings) -> str:
    """What seconds, memory and energy are of."""
    used = [each for contender in found.contenders for each in contender.used]
    ways = sorted({(each.jobs, each.threads) for each in used})
    said = " or ".join(f"{jobs} at a time with {many(threads, 'thread')} each" for jobs, threads in ways)
    said = f"Runs went {said}; seconds are of training, without validation"
    said += ", and do not compare across these." if len(ways) > 1 else "."
    said += " Memory is the peak of the whole process."
    if any(each.joules is not None for each in used):
        return f"{said} Joules are of the processor packages from a run's start to its end."
    unknown = "this system does not tell it" if ways[0][0] == 1 else "runs side by side cannot be told apart"
    return f"{said} Energy is not shown: {unknown}."


def _selection(found: Standings, patience: int) -> str:
    """How the epoch was chosen, if at all."""
    if not any(curve for each in found.contenders for curve in each.curves):
        return "No epoch was chosen: there was no validation, and each was trained to its end."
    return (
        f"The epoch was chosen by {found.monitor} in validation; training stopped early after {patience} validations without"
        " a better one (0: never)."
    )


def settings_of(each: Contender) -> str:
    """The contender's own sections in a line."""
    parts = []
    for section, values in each.settings.items():
        if isinstance(values, Mapping) and "name" in values:
            own = ", ".join(f"{key}={value}" for key, value in values.items() if key != "name")
            parts.append(f"{section} {values['name']}" + (f"({own})" if own else ""))
    own = each.settings["training"]
    parts += [f"learning rate {own['learning_rate']:g}, batch {own['batch_size']:,}"]
    if "epochs" in own:  # open where it failed early
        parts[-1] += f", {many(own['epochs'], 'epoch')}"
    return "; ".join(parts)


def failures(found: Standings) -> list[str]:
    """Which runs did not come to their end, and why."""
    return [f"{each.name}, seed {seed}: {why}" for each in found.contenders for seed, why in each.failed.items()]
