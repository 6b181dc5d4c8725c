"""The loops over every entry of a model, compiled by numba: one pass over memory where numpy would take ten.

Integers, and float operations that IEEE 754 rounds exactly (no fast-math): the same bits on every machine. They
release the interpreter's lock, so that threads may share the rows. What they mean is said where they are called.

    rows    dense rows of values: gradient, quantisation, norms, residual
    sparse  rows of which the entries that differ from zero are listed
    sums    aggregation, of both
"""
