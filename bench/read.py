"""Seconds to read a folder of train and test interactions: ``python bench/read.py ../shared/data/gowalla``."""

import sys
import time

from rankwell.data import read_dataset


def main(folder: str, repeats: int = 5) -> None:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        data = read_dataset(folder)
        seconds.append(time.perf_counter() - start)
    pairs = len(data.train) + (0 if data.test is None else len(data.test))
    print(f"{folder}: {pairs:,} pairs, first {seconds[0]:.3f} s, best of {repeats} {min(seconds):.3f} s")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python bench/read.py FOLDER")
    main(sys.argv[1])
