"""What the objective does on a finite problem, exactly: optima, fixed points and flows, in NumPy.

`problem` holds the outcomes, `advantage` the pseudo-reward as a line in log pi, `flow` the gradient flows and their
limits, `optimum` the optimum, `stationary` every fixed point with its stability.
"""
