"""What is done in C where it is installed; :mod:`sealstream.processors` does without it as well."""
