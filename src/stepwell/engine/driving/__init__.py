"""One run in a worker's hands: decide, perform, commit."""
