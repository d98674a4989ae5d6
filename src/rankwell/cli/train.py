"""``rankwell train``."""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from rankwell.cli.screen import (
    RunProgress,
    dotted,
    errors,
    facts_table,
    figures_table,
    negatives_table,
    output,
    program,
)
from rankwell.config import Config, load_toml, resolve, with_option
from rankwell.errors import ConfigError
from rankwell.experiments import Result, RunFolder, run
from rankwell.experiments.plan import plan
from rankwell.experiments.tracking import tracked
from rankwell.tasks import task_of

__all__ = ["train"]


def train(
    context: typer.Context,
    path: Annotated[
        Optional[str],  # noqa: UP045  (Typer reads this form)
        typer.Argument(help="Data: a file or folder. 'synthetic' generates some."),
    ] = None,
    config: Annotated[Optional[Path], typer.Option(help="A TOML file; options override it.")] = None,  # noqa: UP045
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The run's folder; it must not exist. runs/latest without this option."),
    ] = None,
    resume: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Go on with an interrupted run's folder, bit for bit."),
    ] = None,
    track: Annotated[
        str,
        typer.Option(envvar="RANKWELL_TRACK", help="Follow the run elsewhere, too: tensorboard, mlflow."),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show configuration, work and memory; train nothing.")
    ] = False,
) -> None:
    """Train a model, choose its epoch on what validation holds, and measure it on what the test holds.

    Interactions make a recommender; --task ltr ranks documents by features ('rankwell tasks' lists the tasks).

    Every setting is an option --section.key VALUE, as in the TOML file: --loss mml --loss.neg_weight 400 --model.dim 128
    --sampler.n 512 --miner hardest --miner.k 10 --generator hard_mixing --training.epochs 20
    --evaluation.measures recall@20,ndcg@10 --seed 1. 'rankwell train --dry-run' prints them all; 'rankwell losses' lists
    losses, 'rankwell miners' miners, 'rankwell generators' generators.
    """
    if resume is not None:
        if path or config or out or context.args:
            raise ConfigError("--resume takes the run's own configuration: give nothing else beside it.")
        settings, folder = RunFolder(resume).config(), RunFolder(resume)
    else:
        settings, folder = _resolved(path, config, context.args), RunFolder(out or Path("runs/latest"))
    if dry_run:
        _show_plan(settings)
        return
    with (
        RunProgress(errors, task_of(settings.task).units) as progress,
        tracked(folder, track, progress) as reporter,
    ):
        result = run(settings, folder, resume=resume is not None, reporter=reporter)
    _show_result(settings, result, folder)


def _resolved(path: str | None, config: Path | None, options: list[str]) -> Config:
    raw: dict[str, Any] = load_toml(config) if config else {}
    source = str(config) if config else "options"
    plain = dotted(path, options, raw)
    if plain is not None and any(option.partition("=")[0] == "--data.path" for option in options):
        raise ConfigError(f"name the data once: by {plain!r} or by --data.path.")
    if plain is not None:
        with_option(raw, "data.path", plain)
    return resolve(raw, source)


def _show_plan(settings: Config) -> None:
    import tomli_w

    planned = plan(settings)
    output.print(tomli_w.dumps(planned.config.as_dict()), markup=False)
    # As comments, so that what was printed is a configuration file as a whole.
    output.print(facts_table((f"# {name}", value) for name, value in planned.rows()))


def _show_result(settings: Config, result: Result, folder: RunFolder) -> None:
    model = str(settings.model["name"])
    name = f"{model}, {settings.loss['name']}" if result.epochs else model
    output.print(figures_table({**{name: result.test}, **result.baselines}))
    for question, figures in result.slices.items():
        output.print(f"\n{question}:", markup=False)
        output.print(figures_table(figures))
    units = task_of(settings.task).units
    trained = f"{result.epochs} epochs" if result.epochs else "closed form"
    chosen = ""
    if result.validation is not None:
        chosen = f", chosen by {settings.evaluation.monitor} {result.validation:.4f} in validation"
    seconds = "  ".join(f"{phase} {value:.1f}" for phase, value in result.seconds.items())
    output.print(f"{result.users:,} test {units} · {trained}{chosen}", markup=False)
    output.print(f"seconds: {seconds}  (sum {sum(result.seconds.values()):.1f})", markup=False)
    output.print(f"run folder: {folder.path}", markup=False)
    if seen := folder.negatives().get("select"):
        output.print("\nNegatives, as training saw them (negatives.png):")
        output.print(negatives_table([seen[0], seen[-1]] if len(seen) > 1 else seen))
    monitor = settings.evaluation.monitor
    if "ideal" in result.baselines:
        low, high = (result.baselines[row][monitor] for row in ("popularity", "ideal"))
        call = program()
        share = (result.test[monitor] - low) / (high - low)
        output.print(
            f"\nOn generated data the best possible ranking is known: {name} covers {share:.0%} of the way from"
            f" popularity to it in {monitor}."
            + "".join(f"\n{hint.format(call=call, folder=folder.path)}" for hint in task_of(settings.task).hints),
            markup=False,
        )
