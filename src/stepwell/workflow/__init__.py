"""DESCRIBE: what a workflow is, as frozen values; nothing here runs, waits or stores."""
