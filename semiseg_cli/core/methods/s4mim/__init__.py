"""S4MIM: `method.py` is the paper; the other files hold what it alone uses.

pixel_decoder: PiD, eqs. 3, 4 and 7. classwise: eqs. 6 and 7. prototypes: eqs. 9 to 12. streams: what is masked.
"""
