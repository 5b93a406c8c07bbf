"""Does looping store more knowledge, or use better what is stored? Capacity beside composition."""
