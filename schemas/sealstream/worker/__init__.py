"""What every long-running process shares: settings, logs, metrics, its web port, its stop signal."""
