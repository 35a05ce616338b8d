"""A small project as one written for Sample Factory looks, after its import prefixes were replaced: an environment of
lists per agent, flags and defaults of its own, an encoder, reward shaping that anneals with the training."""
