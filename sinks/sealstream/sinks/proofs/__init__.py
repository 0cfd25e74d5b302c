"""Proofs: makes proof files and bundles out of the store, the published logs and what the notary keeps.

It holds no keys. Whatever it reads is verified before it is given out, so a proof that it makes is one that holds.
"""
