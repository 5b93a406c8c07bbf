"""Which of the two does it: weights shared between the loops, or an objective that pays every exit?"""
