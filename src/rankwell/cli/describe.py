"""``rankwell describe``."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from rankwell.cli.screen import dotted, errors, output
from rankwell.config import resolve, with_option
from rankwell.errors import ConfigError
from rankwell.tasks.interaction_data import InteractionData, read
from rankwell.text.descriptions import DescribeSettings, Watched
from rankwell.text.descriptions import describe as made_table
from rankwell.text.encoder import load_encoder
from rankwell.text.items import Items, read_attributes
from rankwell.text.offline import OfflineWriter
from rankwell.text.prompts import load_template
from rankwell.text.service import Budget, Patience, ServiceWriter
from rankwell.text.writer import TextGenerator

__all__ = ["describe"]

# ruff: noqa: UP045  (Typer reads Optional)


def describe(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="Interactions: a file or folder, split as train splits them.")],
    items: Annotated[
        Optional[Path],
        typer.Option(help="Attributes of items: .csv or .tsv, a column item and others. --data.items without it."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="The table to write, .safetensors. It must not exist.")
    ] = None,
    writer: Annotated[
        Literal["offline", "openai"],
        typer.Option(help="Exchange attributes here, or ask a service that speaks OpenAI's protocol."),
    ] = "offline",
    model: Annotated[str, typer.Option(help="The service's name of its model.")] = "",
    base_url: Annotated[
        str, typer.Option(help="The service's address, up to the version.")
    ] = "https://api.openai.com/v1",
    key_variable: Annotated[
        str, typer.Option(help="The environment variable that holds the key; '' sends none.")
    ] = "OPENAI_API_KEY",
    cache: Annotated[
        Path, typer.Option(help="Where a service's replies are kept, so that none is asked for twice.")
    ] = Path("replies"),
    budget_requests: Annotated[Optional[int], typer.Option(min=1, help="Requests at most.")] = None,
    budget_tokens: Annotated[Optional[int], typer.Option(min=1, help="Tokens at most, as the service counts.")] = None,
    parameters: Annotated[
        str, typer.Option(help='What else each request says, as JSON: \'{"temperature": 0.7, "max_tokens": 300}\'.')
    ] = "{}",
    timeout: Annotated[float, typer.Option(help="Seconds that a reply may take.")] = 60.0,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at a time.")] = 8,
    profiles: Annotated[
        bool, typer.Option("--profiles", help="First let the service write profiles of items and users.")
    ] = False,
    template: Annotated[
        str, typer.Option(help="What is asked: hnlmrec, syneg, or a TOML file of your own.")
    ] = "hnlmrec",
    encoder: Annotated[
        str, typer.Option(help="minilm (offline), or a sentence-transformers model's folder.")
    ] = "minilm",
    per: Annotated[
        Literal["user", "pair"], typer.Option(help="Negatives of each user, or of each pair of user and item.")
    ] = "user",
    k: Annotated[int, typer.Option(min=1, help="Descriptions of each.")] = 2,
    history: Annotated[int, typer.Option(min=1, help="Items at most that a prompt tells of a user.")] = 10,
    domain: Annotated[str, typer.Option(help="What the items are, in a word or two.")] = "products",
) -> None:
    """Describe hard negatives in words and write their vectors, for train --generator semantic --generator.table FILE.

    Only pairs that train learns from are shown to the writer: give --data.… and --seed as to train. Interrupted, the same
    command goes on from the service's replies in --cache.
    """
    raw: dict[str, Any] = {}
    plain = dotted(path, context.args, raw)
    if plain is None or out is None:
        raise ConfigError("say which interactions and which table: rankwell describe PATH --items FILE --output FILE.")
    if other := sorted(raw.keys() - {"data", "seed"}):
        raise ConfigError(f"rankwell describe takes --data.user and its like, and --seed: got --{other[0]}.")
    if out.exists():
        raise ConfigError(f"{out} exists. Name a file that does not.")
    if writer == "offline" and (profiles or model):
        raise ConfigError("--model and --profiles are for a service. Choose --writer openai, or leave them out.")
    with_option(raw, "data.path", plain)
    config = resolve(raw, "options")
    given = config.data
    assert isinstance(given, InteractionData)
    settings = DescribeSettings(per, k, history, domain, profiles, config.seed)
    if items is None and given.items is None:
        raise ConfigError("say what is known of the items: --items FILE.")
    known = read_attributes(items or Path(str(given.items)), item=given.items_id or "item")
    asked = load_template(template)
    data = read(given, config.seed).fit
    budget = Budget(budget_requests, budget_tokens)
    writes: TextGenerator = OfflineWriter(known, seed=config.seed)
    if writer == "openai":
        writes = ServiceWriter(
            model,
            cache=cache,
            base_url=base_url,
            key_variable=key_variable,
            parameters=_object(parameters),
            concurrency=concurrency,
            budget=budget,
            patience=Patience(timeout=timeout),
        )
    with _bars() as watch:
        table = made_table(
            data.user_ids.to_list(),
            data.item_ids.to_list(),
            data.known(),
            known,
            writer=writes,
            encoder=load_encoder(encoder),
            template=asked,
            settings=settings,
            watch=watch,
        )
    facts = {"writer": model or writer, "template": template, "encoder": encoder, "per": per, "seed": config.seed}
    replace(table, facts=facts).save(out)
    if writer == "openai":
        output.print(f"{budget.used_requests:,} requests, {budget.used_tokens:,} tokens", markup=False)
    _show(table.users, k, known, out)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--parameters must be a JSON object: {error}.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"--parameters must be a JSON object: got {text}.")
    return found


def _show(users: Any, k: int, items: Items, out: Path) -> None:
    output.print(f"{len(users) * k:,} negatives described, of {', '.join(items.names)}", markup=False)
    output.print(
        f"table: {out}\nTrain with it: rankwell train … --generator semantic --generator.table {out}", markup=False
    )


@contextmanager
def _bars() -> Iterator[Watched]:
    """A bar for each thing that is done."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=errors, transient=True) as bars:

        def watch(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=of)

        yield watch
