"""``rankwell evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from rankwell import evaluation
from rankwell.cli.screen import RunProgress, errors, figures_table, output
from rankwell.config import listed
from rankwell.experiments import RunFolder
from rankwell.metrics import Measure

__all__ = ["evaluate"]


def evaluate(
    folder: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    measures: Annotated[str, typer.Option(help="Measures, separated by commas: ndcg@10,recall@50,auc.")] = "",
) -> None:
    """Measure a finished run on its test pairs, against the whole catalogue, known items left out."""
    saved = RunFolder(folder).load()
    texts = listed(measures) if measures else saved.config.evaluation.measures
    with RunProgress(errors) as progress:
        progress.phase("evaluate", 0)
        result = evaluation.evaluate(
            saved.model,  # type: ignore[arg-type]  # every registered model ranks the catalogue
            [Measure.parse(text) for text in texts],
            known=saved.known,
            held_out=saved.held_out,
            block=saved.config.evaluation.block,
            progress=progress.evaluating,
        )
    output.print(figures_table({str(saved.config.model["name"]): result.means()}))
    output.print(f"{len(result.users):,} users with test pairs, {result.without_held_out:,} without", markup=False)
