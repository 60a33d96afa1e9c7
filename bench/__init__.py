"""How fast the hot paths are, as ratios against a peer measured in the same run; `python -m bench`."""
