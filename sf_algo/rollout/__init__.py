"""Stepping environments and writing trajectories. Imports no torch."""
