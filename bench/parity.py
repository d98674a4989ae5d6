"""What our losses differ by from other libraries' on the same data: largest differences of values and of gradients.

    python bench/parity.py [--out bench/results]

Prints and writes parity.txt. The comparisons are those of tests/parity, where each is held to a tolerance.
"""

import argparse
import datetime
import math
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "parity"))

from comparisons import MODULES, comparisons, version

INSTALLED_AS = {"pytorch_metric_learning": "pytorch-metric-learning", "sentence_transformers": "sentence-transformers"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    lines = [
        datetime.date.today().isoformat(),
        "Differences beside the larger of 1 and theirs; float64 unless said.",
        "",
    ]
    for library in MODULES:
        name = INSTALLED_AS.get(library, library)
        if (installed := version(name)) is None:
            print(f"{name} is not installed: left out")
            continue
        lines += [f"{name} {installed}", *rows(library), ""]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "parity.txt").write_text("\n".join(lines), encoding="utf-8")


def rows(library: str) -> list[str]:
    """A line a comparison: our loss, theirs, differences of values and of gradients, how they are read as the same."""
    lines = []
    for one in comparisons(library):
        of_values, of_gradients = one.differences()
        values = "      -" if math.isnan(of_values) else f"{of_values:7.1e}"
        lines.append(f"  {one.loss:<26} {one.theirs:<48} {values}  {of_gradients:7.1e}   {one.reading}")
        print(f"{library}{lines[-1]}", flush=True)
    return lines


if __name__ == "__main__":
    main()
