"""Out of the log, into chains: the Faust application that turns audit.events into audit.chained."""
