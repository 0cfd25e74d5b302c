"""Anchors outside: what shows those who trust neither log nor witnesses that a root checkpoint was there by a time.

Each is optional. One that fails is an alarm, and never stops a round: checkpoints count without it.
"""
