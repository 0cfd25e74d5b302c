"""Out of the log: the store and the verifier. They share no code but the layers below them."""
