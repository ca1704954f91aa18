"""KEEP: where runs and journals are stored; a store never decides and never calls user code."""
