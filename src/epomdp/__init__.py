"""epomdp: generalization in reinforcement learning as the epistemic POMDP."""

__version__ = "0.1.0"
