"""Tabular twin: families of MDPs, posteriors, the epistemic POMDP and its solvers (NumPy, SciPy, Numba only).

The main classes can be imported from here. Functions are in their modules, as `solve` and `ladder` are both.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epomdp.exact.belief import EpistemicPOMDP
    from epomdp.exact.family import Family
    from epomdp.exact.pomdp import Pomdp
    from epomdp.exact.posterior import BootstrapPosterior, DirichletPosterior, FinitePosterior

__all__ = [
    "BootstrapPosterior",
    "DirichletPosterior",
    "EpistemicPOMDP",
    "Family",
    "FinitePosterior",
    "Pomdp",
]

_MODULES = {"EpistemicPOMDP": "belief", "Family": "family", "Pomdp": "pomdp"}


def __getattr__(name: str) -> Any:
    # On first use: the command line imports this package for things that need less.
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'posterior')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
