"""The composition root: the command line, the local stack, the demonstration. It puts the roles together."""
