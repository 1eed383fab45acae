"""Tests with the real driver: on the scripted protocol server, and on real nodes."""
