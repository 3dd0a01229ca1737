"""Published checkpoints as model folders. Nothing in a checkpoint is run."""
