"""Trained policies: those that come with the package, those of the hub, and how they are made, shown and played.

A trained policy is a folder like an experiment's, without what only training needs: `cfg.json`, one checkpoint with
weights in half precision, `card.json`, and a picture of an episode. So whatever takes an experiment takes one.
"""
