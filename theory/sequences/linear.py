"""Solutions of (I - B) x = b for sparse non-negative B with spectral radius below 1."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, identity
from scipy.sparse.linalg import gmres, splu

from sharpen.theory.core.problem import FloatArray

DIRECT = 3000  # states up to which the factors fit whatever their fill
TOLERANCE = 1e-13
RESTART, CYCLES = 40, 25  # of GMRES; 1000 products
SINGULAR = "the linear system is singular to working precision"


def solve(matrix: csr_array, b: FloatArray) -> FloatArray:
    """Return x with x = b + B x, shape [n].

    Few states are solved by sparse LU. For many GMRES goes first, since the LU factors of a graph without locality fill
    up; where it does not converge (long corridors, whose factors stay sparse) LU follows. Two sweeps of x <- b + B x at
    the end restore the relative accuracy of small entries, which a norm does not see.

    Args:
        matrix: B, shape [n, n], non-negative, spectral radius < 1.
        b: Shape [n], non-negative.

    Raises:
        ArithmeticError: no solution of relative residual 1e-10 was found; B is singular to working precision.
    """
    n = b.size
    if n == 0 or not np.any(b):
        return np.zeros(n)
    x, done = np.zeros(n), 1
    if n > DIRECT:
        x, done = gmres(identity(n, format="csr") - matrix, b, rtol=TOLERANCE, restart=RESTART, maxiter=CYCLES)
    if done != 0:
        try:
            x = splu((identity(n, format="csc") - matrix).tocsc()).solve(b)
        except RuntimeError as error:  # SuperLU's word for a zero pivot
            raise ArithmeticError(SINGULAR) from error
    for _ in range(2):
        x = b + matrix @ np.maximum(x, 0.0)
    if not np.max(np.abs(b + matrix @ x - x)) <= 1e-10 * np.max(x):
        raise ArithmeticError(SINGULAR)
    return x
