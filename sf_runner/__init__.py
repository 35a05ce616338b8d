"""Run grids of experiments on GPUs and cores."""
