"""How many different questions must be seen before multi-hop answers appear, by loops and hops, at equal FLOPs?"""
