"""Does a deep model only need longer, or does it never get where a looped one gets?"""
