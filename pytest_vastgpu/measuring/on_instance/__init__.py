"""The program that makes the load. It runs on the instance: Python 3.8 and its standard library, nothing else."""
