"""Faults on purpose: histories of what every process did, and a checker that judges them. For development only."""
