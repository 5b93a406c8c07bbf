"""Does the advantage of looping last while a model fills up with facts?"""
