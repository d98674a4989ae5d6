"""``rankwell evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from rankwell.cli.screen import RunProgress, errors, figures_table, output
from rankwell.config import listed
from rankwell.experiments import RunFolder
from rankwell.metrics import Measure

__all__ = ["evaluate"]


def evaluate(
    folder: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    measures: Annotated[
        str, typer.Option(help="Measures, separated by commas: ndcg@10,recall@50,auc,coverage@20.")
    ] = "",
) -> None:
    """Measure a finished run on what its test holds: the whole catalogue without known items, or each query's documents."""
    saved = RunFolder(folder).load()
    texts = listed(measures) if measures else saved.config.evaluation.measures
    with RunProgress(errors, saved.task.units) as progress:
        progress.phase("evaluate", 0)
        chosen = [saved.task.check(Measure.parse(text)) for text in texts]
        data = saved.data
        result = saved.task.judge(
            saved.config, saved.model, chosen, data.train, data.test, progress.evaluating, items=data.items
        )
        name = str(saved.config.model["name"])
        slices = saved.task.judge_slices(saved.config, {name: saved.model}, chosen, data)
    rows = {f"{name}, {question}": figures[name] for question, figures in slices.items()}
    output.print(figures_table({name: result.means(), **rows}))
    without = f", {result.without_held_out:,} without test pairs" if result.without_held_out else ""
    output.print(f"{len(result.users):,} test {saved.task.units}{without}", markup=False)
