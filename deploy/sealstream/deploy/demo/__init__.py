"""The demonstration: the whole pipeline on real servers, from one command, with a tampering that is found out."""
