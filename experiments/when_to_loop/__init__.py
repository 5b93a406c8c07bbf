"""Does it matter when one loops: while facts are stored, while questions are learned, or in both?"""
