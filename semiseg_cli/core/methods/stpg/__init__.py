"""STPG: `method.py` is the paper; the other files hold what it alone uses.

settings: what it can be told. mismatch: eqs. 5 and 6. anchors: eqs. 12 and 14. contrast: eqs. 15 and 16.
dual_contrast: section 3.3 with its state.
"""
