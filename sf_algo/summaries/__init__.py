"""What a training tells about itself: tensorboard, Weights & Biases, the log, the progress and result
files."""
