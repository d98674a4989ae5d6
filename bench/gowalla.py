"""Losses on Gowalla by the command line, one after the other: figures, seconds and the README's picture.

    python bench/gowalla.py ../shared/data/gowalla [--out runs/gowalla] [--only bsl,mml]

Each run selects its epoch on 10 % of the training pairs (seeded), trains again on all of them for so many epochs, and looks
at the published test pairs once. Runs that are in the folder already are read, not repeated. Writes
``bench/results/gowalla.json`` and ``docs/gowalla.png``.
"""

import argparse
import datetime
import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

COMMANDS: dict[str, str] = {
    "graph filter": "--model graph_filter",
    "bsl": "--loss bsl",
    "mml": "--loss mml",
    "ccl": "--loss ccl",
    "sampled softmax": "--loss sampled_softmax",
    "bpr": "--loss bpr",
}
PUBLISHED = {"MF-BPR": 0.1491, "MF-CCL": 0.1837, "LightGCN": 0.1830}
"""Recall@20 as reported, all selected on the test pairs."""


def train(name: str, data: str, out: Path) -> dict[str, Any]:
    folder = out / name.replace(" ", "-")
    command = f"rankwell train {data} {COMMANDS[name]} --out {folder}"
    timed = folder.parent / f"{folder.name}.seconds"
    if not (folder / "metrics.json").exists():
        started = time.monotonic()
        subprocess.run(command.split(), check=True)
        timed.write_text(f"{time.monotonic() - started:.1f}")
    metrics = json.loads((folder / "metrics.json").read_text())
    return {"command": command, "wall_seconds": float(timed.read_text()), **metrics}


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, result in results.items():
        seconds, recall = result["wall_seconds"], result["test"]["recall@20"]
        axes.scatter(seconds, recall, color="#0072B2", zorder=3)
        axes.annotate(name, (seconds, recall), xytext=(6, 4), textcoords="offset points", fontsize=9)
    for (name, recall), side in zip(PUBLISHED.items(), ("bottom", "bottom", "top"), strict=True):
        axes.axhline(recall, color="0.75", linewidth=1, linestyle=":", zorder=1)
        axes.annotate(
            f"{name}, published", (0.75, recall), xycoords=("axes fraction", "data"), va=side, fontsize=7.5, color="0.4"
        )
    axes.set(
        xlabel="seconds of the whole command on two CPU cores (reading, choosing, training, evaluating)",
        ylabel="Recall@20 on the test pairs",
        title="Gowalla, 29,858 users × 40,981 items",
        xlim=(0, 1.5 * max(result["wall_seconds"] for result in results.values())),
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("runs/gowalla"))
    parser.add_argument("--only", default=",".join(COMMANDS))
    options = parser.parse_args()
    results = {name: train(name, options.data, options.out) for name in options.only.split(",")}
    stored = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "hardware": f"{torch.get_num_threads()} threads, {_processor()}",
        "torch": torch.__version__,
        "results": results,
    }
    here = Path(__file__).parent
    (here / "results").mkdir(exist_ok=True)
    (here / "results" / "gowalla.json").write_text(json.dumps(stored, indent=2) + "\n")
    draw(results, here.parent / "docs" / "gowalla.png")
    for name, result in results.items():
        test = result["test"]
        print(
            f"{name:>16}  recall@20 {test['recall@20']:.4f}  ndcg@20 {test['ndcg@20']:.4f}  epochs {result['epochs']:>2}"
            f"  {result['wall_seconds']:.0f} s"
        )


if __name__ == "__main__":
    main()
