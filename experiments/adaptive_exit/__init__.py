"""Can a model leave the loop early where a question needs few loops, without losing accuracy?"""
