"""The catalogue of faults: one module for each subject, and the effects that the rest of the market carries out."""
