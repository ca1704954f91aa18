"""Tests of the shape of the project: layers, sizes, names, the public surface; none of them runs a workflow."""
