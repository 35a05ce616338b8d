"""Environments: specs and protocol (`spec`), makers by name (`factory`), gymnasium and VizDoom adapters.

numpy only: no module of this folder imports torch, so that a rollout worker stays small.
"""
