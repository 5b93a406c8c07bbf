"""Where do more loops than were trained help, where do they stop helping, and where do they hurt?"""
