"""What runs on a host while its environment is made. These files are brought there; none of them is imported here.

Python there may be as old as 3.8, and has nothing but its standard library.
"""
