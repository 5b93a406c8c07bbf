"""`looplm bench`: measurements of speed, each against something that can be checked. One module a benchmark."""
