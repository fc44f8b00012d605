"""SAL over DDS: what a component's topics are, how a sample of one is made and read, what it means to us.

Nothing outside of this package imports cyclonedds.
"""
