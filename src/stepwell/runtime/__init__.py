"""Clock, chance, ids, sleep and threads: all that stepwell takes from the world and cannot decide."""
