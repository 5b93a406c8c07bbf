"""How many times the parameters does a plain model need to match a looped one, for storage and for use?"""
