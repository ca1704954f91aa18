"""DRIVE: the only place that awaits, calls handlers and dies; it decides nothing by itself."""
