"""What a step and a run cost, counted; a model of how many workers a load needs; a simulation of a large fleet."""
