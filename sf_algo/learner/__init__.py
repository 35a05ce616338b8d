"""Turns batches of trajectories into better weights. Knows nothing of processes, files or shared memory."""
