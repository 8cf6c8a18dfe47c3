"""`make bench` and `make soak`: how fast it is, and whether anything grows."""
