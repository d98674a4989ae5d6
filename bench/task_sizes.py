"""The code that each task has for itself: ``python bench/task_sizes.py`` from the root, the table of docs/design/007-tasks.md.

Counted are lines with code: no blank ones, no comments, no docstrings.
"""

import ast
import io
import tokenize
from pathlib import Path

SOURCE = Path("src/rankwell")
PARTS = ("the task", "data", "objective and evaluation", "models")
OWN: dict[str, tuple[str, ...]] = {
    "interactions": (
        "tasks/interaction*.py tasks/new_interactions.py tasks/popularity_parts.py tasks/side_features.py"
        " tasks/text_columns.py",
        "data/schema.py data/readers.py data/splits.py data/statistics.py data/synthetic.py data/synthetic_features.py"
        " data/adjacency.py data/item_columns.py data/keys.py",
        "training/adversarial_objective.py evaluation/among.py evaluation/newcomers.py",
        "models/als.py models/ease.py models/feature_knn.py models/graph_filter.py models/history.py models/item_knn.py"
        " models/lightgcn.py models/mf.py models/neumf.py models/popularity.py models/propagation.py models/simplex.py"
        " models/spectral.py models/start.py models/tower.py models/two_tower.py models/ultragcn.py models/encoder.py",
    ),
    "ltr": (
        "tasks/lists.py tasks/list_data.py",
        "data/judged*.py data/batching/lists.py",
        "training/list_objective.py evaluation/judged.py",
        "models/rankers.py models/list_baselines.py",
    ),
    "sequences": (
        "tasks/sequences.py",
        "data/sequence*.py data/batching/of_sequences.py",
        "training/sequence_objective.py evaluation/next_item.py",
        "models/sequential.py models/sasrec.py models/gru4rec.py models/item_mean.py",
    ),
    "labels": (
        "tasks/label*.py",
        "data/label*.py data/batching/labelled.py",
        "evaluation/labelled.py",
        "models/label_scorers.py",
    ),
    "classes": (
        "tasks/class*.py",
        "data/example*.py data/batching/examples.py",
        "training/class_objective.py evaluation/examples.py",
        "",
    ),
    "retrieval": (
        "tasks/retrieval*.py",
        "data/retrieval.py data/text_rows.py data/text_cells.py data/text_tables.py data/records.py data/cosqa.py"
        " data/synthetic_texts.py",
        "training/cached_gradients.py training/encoded_texts.py training/mined_objective.py training/text_lists.py",
        "models/text_model.py models/bi_encoder.py models/adapter.py models/bag_of_words.py",
    ),
    "rerank": (
        "tasks/reranking.py",
        "",
        "training/paired_texts.py",
        "models/cross_encoder.py models/max_sim.py",
    ),
}
"""Files by task and part; each stands once. What several tasks use stands with the first that needed it."""


def code_lines(text: str) -> int:
    """Lines with code: what is left without blank lines, comments and docstrings.

    >>> code_lines('def f():\\n    \"\"\"Says.\"\"\"\\n    # why\\n\\n    return 1\\n')
    2
    """
    said = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    empty = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in empty]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - said)


def main() -> None:
    """The table, and how much is shared."""
    print(f"| | {' | '.join(PARTS)} | together |")
    print("|---" * (len(PARTS) + 2) + "|")
    seen: set[Path] = set()
    for task, parts in OWN.items():
        sizes = []
        for patterns in parts:
            files = {file for pattern in patterns.split() for file in SOURCE.glob(pattern)}
            assert not files & seen, f"counted twice: {files & seen}"
            seen |= files
            sizes.append(sum(code_lines(file.read_text(encoding="utf-8")) for file in files))
        print(f"| {task} | {' | '.join(f'{size:,}' for size in sizes)} | {sum(sizes):,} |")
    shared = {file for file in SOURCE.rglob("*.py") if file not in seen}
    print(f"\nShared: {sum(code_lines(file.read_text(encoding='utf-8')) for file in shared):,} lines.")


if __name__ == "__main__":
    main()
