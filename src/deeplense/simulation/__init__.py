"""How a dataset is made: its catalogue, its shards one by one, in this process or on a cluster."""
