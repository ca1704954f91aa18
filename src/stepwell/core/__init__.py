"""DECIDE: where a run stands and what comes next, as pure functions over its journal; no clock, chance or I/O."""
