"""Key providers that fetch keys over the network."""
