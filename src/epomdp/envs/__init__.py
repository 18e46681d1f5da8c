"""Environments: what an agent acts in, one per file. Importing it makes them known to Gymnasium."""

from epomdp.envs.registration import register

register()
