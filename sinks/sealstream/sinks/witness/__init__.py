"""The witness: cosigns a log's checkpoints, and never two that do not grow out of one another (C2SP tlog-witness)."""
