"""What `python -m sf_runner.tb` is made of: find experiments, link their summaries, keep tensorboard running."""
