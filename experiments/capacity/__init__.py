"""How many bits does a parameter store, by loops, exposures, kind of data and attribute?"""
