"""What the certificate does to recordings beside `degradations`: sounds, a phone, places, small changes.

Functions of a waveform `(samples,)` float32 at 16 kHz and of a `degradations.DegradationContext`, as there.
"""
