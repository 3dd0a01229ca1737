"""The training loop, its schedule, its checkpoints and its log. No paper is named here."""
