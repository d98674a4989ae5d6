"""Kernels: what the losses compute with, below them and without their names, masks and reductions.

A kernel gives sums, ranks or values of lists, rows or a catalogue, exact and in memory that does not grow with what is
compared: it goes in chunks, and makes slopes along with the values, or makes the chunks again in the backward pass.

- sums over pairs: ``pairs`` by ``sorted_pairs`` and ``chunked_pairs``; weighed as metrics say, ``lambda_pairs`` by
  ``lambda_weights``; as products of weights, ``product_pairs``; a positive against the negatives of its row, ``gaps``;
- gains of labels: ``gains``;
- ranks and orders: ``comparisons``, ``neural_sort``, ``isotonic``, ``plackett_luce``;
- softmax over a whole catalogue: ``catalogue``, ``buckets``;
- nearest points of two curves: ``arcs``;
- what makes one operator of a kernel, for tracing, ``vmap`` and derivatives: ``operators``.
"""

__all__: list[str] = []
