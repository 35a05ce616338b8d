"""Trajectories in shared memory: their layout, their memory and the ownership of slots."""
