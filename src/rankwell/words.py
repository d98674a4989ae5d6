"""Words of sentences that count."""

__all__ = ["many"]


def many(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun.

    >>> many(1, "query", "queries"), many(2_000, "query", "queries")
    ('1 query', '2,000 queries')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
