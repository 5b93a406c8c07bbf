"""Is an answer made from the bridge that a loop seems to hold, or that a chain of thought writes?"""
