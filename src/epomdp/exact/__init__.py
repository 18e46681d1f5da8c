"""Tabular twin: families of MDPs, posteriors, the epistemic POMDP and its solvers (NumPy, SciPy, Numba only)."""
