"""The vocabulary of Sealstream: events, entries, hashes and their verification. Pure: nothing here does I/O.

Every byte of every format is specified in ``SPEC.md`` beside this file.
"""
