"""epomdp: generalization in reinforcement learning as the epistemic POMDP.

Importing it registers the board games with Gymnasium: `gymnasium.make("epomdp/maze-v0")`.
"""

import epomdp.envs  # noqa: F401

__version__ = "0.1.0"
