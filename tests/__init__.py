"""A package, so that pytest puts the folders of this one on the path, not this one itself: `datasets` is also the name
of a library.
"""
