"""The notary: reads the store back, signs how far each chain has come, and publishes what proofs are made from."""
