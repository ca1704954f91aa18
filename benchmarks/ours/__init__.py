"""What of stepwell is measured, a function each; all of it by stepwell's public names, so that any version is measured.

Each function is called in a process of its own with the `url` of a store that nobody has used, and gives its figures.
"""
